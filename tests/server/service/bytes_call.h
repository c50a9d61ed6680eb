// A call of any method, in bytes: for services that a test has no stub for.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_BYTES_CALL_H_
#define GRADTAP_TESTS_SERVER_SERVICE_BYTES_CALL_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gradtap::server::testing {

// With a minute's deadline; cancelled at its destruction. One thread.
class BytesCall {
 public:
  // `authorization`: as its head says it; empty: nothing.
  BytesCall(const std::shared_ptr<grpc::Channel>& channel,
            const std::string& method, const std::string& authorization = "")
      : stub_(channel) {
    if (!authorization.empty()) {
      context_.AddMetadata("authorization", authorization);
    }
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
    call_ = stub_.PrepareCall(&context_, method, &queue_);
    call_->StartCall(this);
    Done();
  }
  ~BytesCall() {
    if (!finished_) {
      context_.TryCancel();
      Finish();
    }
  }
  BytesCall(const BytesCall&) = delete;
  BytesCall& operator=(const BytesCall&) = delete;

  bool Write(const std::string& message) {
    const grpc::Slice slice(message);
    call_->Write(grpc::ByteBuffer(&slice, 1), this);
    return Done();
  }
  // There is no message, or no further one.
  bool WritesDone() {
    call_->WritesDone(this);
    return Done();
  }
  // False: there is none any more.
  bool Read(std::string* message) {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!Done()) return false;
    std::vector<grpc::Slice> slices;
    message->clear();
    if (buffer.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices) {
        message->append(reinterpret_cast<const char*>(slice.begin()),
                        slice.size());
      }
    }
    return true;
  }
  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Done();
    finished_ = true;
    return status;
  }

 private:
  bool Done() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool finished_ = false;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_BYTES_CALL_H_

// A training program with protos, Abseil and a gRPC server of its own, and the
// agent beside them. Some of its protos have names that gradtap or LibTorch
// might have registered (host/unlucky). First an exception of its own leaves
// the optimizer in the run RUN-thrown. Prints "host: WORDS STEPS" and exits 0
// if all of it worked.
//
// usage: host_program COLLECTOR RUN

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "gradtap/v1/telemetry.pb.h"
#include "host/v1/host.grpc.pb.h"
#include "integration/coexist_agent.h"
#include "record.pb.h"
#include "telemetry.pb.h"
#include "tensor.pb.h"
#include "types.pb.h"

namespace {

class EchoService : public host::v1::Echo::Service {
 public:
  grpc::Status Say(grpc::ServerContext*, const host::v1::Words* request,
                   host::v1::Words* response) override {
    *response = *request;
    response->add_word("again");
    absl::MutexLockMaybe lock(&mu_);
    for (const std::string& word : response->word()) ++times_[word];
    return grpc::Status::OK;
  }

  absl::StatusOr<int> Times(const std::string& word) {
    absl::MutexLockMaybe lock(&mu_);
    const auto found = times_.find(word);
    if (found == times_.end()) return absl::NotFoundError(word);
    return found->second;
  }

 private:
  // By MutexLockMaybe: of MutexLock newer Abseils want a reference, older ones
  // a pointer.
  absl::Mutex mu_;
  absl::flat_hash_map<std::string, int> times_ ABSL_GUARDED_BY(mu_);
};

// What comes back of a message, and whose it is.
template <typename Message>
bool IsOurs(const Message& message, const std::string& file) {
  Message back;
  return Message::descriptor()->file()->name() == file &&
         back.ParseFromString(message.SerializeAsString()) &&
         back.DebugString() == message.DebugString();
}

// The unlucky ones are this program's still.
bool ProtosWork() {
  gradtap::v1::Record record;
  record.set_title("of a song");
  record.add_steps()->set_foot("left");
  gradtap::v1::Hello greeting;
  greeting.add_whom("you");
  gradtap::v1::Batch batch;
  batch.set_loaves("three");
  host::unlucky::Hello hello;
  hello.set_whom("you");
  host::unlucky::Type type, type_back;
  type.set_name("float");
  host::unlucky::Tensor tensor, tensor_back;
  tensor.add_values(1.5f);
  return IsOurs(record, "record.proto") &&
         IsOurs(greeting, "gradtap/v1/telemetry.proto") &&
         IsOurs(batch, "gradtap/v1/telemetry.proto") &&
         IsOurs(hello, "telemetry.proto") &&
         type_back.ParseFromString(type.SerializeAsString()) &&
         type_back.name() == "float" &&
         tensor_back.ParseFromString(tensor.SerializeAsString()) &&
         tensor_back.values_size() == 1 && tensor_back.values(0) == 1.5f;
}

struct OutOfPatience {
  std::int64_t step;
};

// The fourth step of the optimizer throws; the program gets what was thrown.
bool ItsExceptionComesBack(const std::string& collector,
                           const std::string& run) {
  try {
    gradtap::testing::TrainWithAgent(collector, run, 30, {},
                                     [](std::int64_t step) {
                                       if (step == 3) throw OutOfPatience{step};
                                     });
  } catch (const OutOfPatience& thrown) {
    return thrown.step == 3;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: host_program COLLECTOR RUN\n";
    return 2;
  }
  EchoService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || !ProtosWork()) return 1;
  const auto stub = host::v1::Echo::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));

  const bool thrown =
      ItsExceptionComesBack(argv[1], std::string(argv[2]) + "-thrown");
  int echoed = 0;
  const auto trained =
      gradtap::testing::TrainWithAgent(argv[1], argv[2], 30, [&] {
        grpc::ClientContext context;
        host::v1::Words words, answer;
        words.add_word("step");
        if (stub->Say(&context, words, &answer).ok()) {
          echoed += answer.word_size();
        }
      });
  server->Shutdown();
  const absl::StatusOr<int> times = service.Times("again");
  std::cout << "host: " << echoed << ' ' << trained.acknowledged << std::endl;
  const bool worked = thrown && trained.delivered && echoed == 60 &&
                      times.ok() && *times == 30 && ProtosWork() &&
                      absl::IsNotFound(service.Times("never").status());
  return worked ? 0 : 1;
}

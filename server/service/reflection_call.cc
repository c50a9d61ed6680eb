#include "server/service/reflection_call.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstdint>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/wire.h"
#include "grpcpp/support/slice.h"
#include "server/service/grpc_status.h"

namespace gradtap::server {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

constexpr char kReflection[] =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
// What is asked for is a name.
constexpr std::size_t kMostBytes = 4'096;

// ServerReflectionRequest's fields, and those of its answer.
enum : std::uint32_t {
  kHost = 1,
  kFileByName = 3,
  kFileOfSymbol = 4,
  kFileOfExtension = 5,
  kExtensionsOf = 6,
  kListServices = 7
};
enum : std::uint32_t {
  kValidHost = 1,
  kOriginal = 2,
  kFiles = 4,
  kServices = 6,
  kError = 7
};

std::string NotFound(std::string_view name) {
  std::string error;
  wire::AppendVarintField(
      1, static_cast<std::uint64_t>(grpc::StatusCode::NOT_FOUND), &error);
  wire::AppendTextField(
      2,
      absl::StrCat("there is no '", EscapeForTerminal(name.substr(0, 128)),
                   "' here"),
      &error);
  return error;
}

// A file, after all that it imports.
void AppendFiles(const FileDescriptor* file,
                 std::set<const FileDescriptor*>* known, std::string* out) {
  if (!known->insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) {
    AppendFiles(file->dependency(i), known, out);
  }
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  wire::AppendBytesField(1, proto.SerializeAsString(), out);
}

void AppendFileAnswer(const FileDescriptor* file, std::string_view name,
                      std::string* answer) {
  if (file == nullptr) {
    return wire::AppendBytesField(kError, NotFound(name), answer);
  }
  std::string files;
  std::set<const FileDescriptor*> known;
  AppendFiles(file, &known, &files);
  wire::AppendBytesField(kFiles, files, answer);
}

void AppendAnswerTo(const wire::Reader& asked,
                    const std::vector<std::string>& services,
                    std::string* answer) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const std::string name(asked.bytes());
  switch (asked.number()) {
    case kFileByName:
      return AppendFileAnswer(pool.FindFileByName(name), name, answer);
    case kFileOfSymbol:
      return AppendFileAnswer(pool.FindFileContainingSymbol(name), name,
                              answer);
    case kListServices: {
      std::string list;
      for (const std::string& service : services) {
        std::string entry;
        wire::AppendTextField(1, service, &entry);
        wire::AppendBytesField(1, entry, &list);
      }
      return wire::AppendBytesField(kServices, list, answer);
    }
    default:  // There are no extensions.
      return wire::AppendBytesField(kError, NotFound("extension"), answer);
  }
}

// The first request is counted with the call.
class ReflectionCall final : public grpc::ServerGenericBidiReactor {
 public:
  ReflectionCall(const std::vector<std::string>& services, const Guards& guards,
                 CallHead head)
      : services_(services), guards_(guards), head_(std::move(head)) {
    StartRead(&in_);
  }

  void OnReadDone(bool ok) override {
    grpc::Slice request;
    if (!ok) return Finish(grpc::Status::OK);
    grpc::ByteBuffer in;  // Not kept until the call is done.
    in.Swap(&in_);
    if (in.Length() > kMostBytes || !in.DumpToSingleSlice(&request).ok()) {
      return Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                                 "a name is asked for, in at most 4 KiB"));
    }
    if (head_.connection != nullptr) head_.connection->Took(in.Length());
    const absl::Status may = head_.gate->Recheck(head_.caller);
    if (!may.ok()) return Finish(ToGrpcStatus(may));
    const absl::Status often =
        std::exchange(first_, false)
            ? absl::OkStatus()
            : TakeRequest(guards_, head_.caller, head_.context->peer());
    if (!often.ok()) return Finish(ToGrpcStatus(often));
    const grpc::Slice answer(ReflectionAnswer(
        {reinterpret_cast<const char*>(request.begin()), request.size()},
        services_));
    out_ = grpc::ByteBuffer(&answer, 1);
    StartWrite(&out_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&in_);
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>& services_;
  const Guards guards_;
  const CallHead head_;
  bool first_ = true;
  grpc::ByteBuffer in_, out_;
};

}  // namespace

bool IsReflectionMethod(std::string_view path) { return path == kReflection; }

std::string ReflectionAnswer(std::string_view request_untrusted,
                             const std::vector<std::string>& services) {
  std::string answer, found;
  wire::Reader reader(request_untrusted);
  while (reader.Next()) {
    if (reader.type() != wire::Type::kBytes) continue;
    if (reader.number() == kHost) {
      wire::AppendTextField(kValidHost, SafeName(reader.bytes()), &answer);
    } else if (reader.number() >= kFileByName &&
               reader.number() <= kListServices) {
      found.clear();  // As protobuf has it: the last one.
      AppendAnswerTo(reader, services, &found);
    }
  }
  if (!reader.ok() || found.empty()) {
    found.clear();
    wire::AppendBytesField(kError, NotFound("request"), &found);
  }
  wire::AppendBytesField(kOriginal, request_untrusted, &answer);
  return answer + found;
}

grpc::ServerGenericBidiReactor* OpenReflection(
    const std::vector<std::string>& services, const Guards& guards,
    CallHead head) {
  return new ReflectionCall(services, guards, std::move(head));
}

}  // namespace gradtap::server

#include "server/service/other_methods.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstdint>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/wire.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "server/auth/grpc_door.h"
#include "server/service/grpc_status.h"

namespace gradtap::server {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

constexpr char kReflection[] =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
// What is asked for is a name.
constexpr std::size_t kMostBytes = 4'096;
constexpr std::size_t kMostCalls = 512;
constexpr std::size_t kMostOfAClient = 64;

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

// A call that is over before it has begun.
class RefusedCall final : public grpc::ServerGenericBidiReactor {
 public:
  explicit RefusedCall(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

// One answer to each request, one after the other. The first one is counted
// with the call.
class ReflectionCall final : public grpc::ServerGenericBidiReactor {
 public:
  ReflectionCall(const std::vector<std::string>& services, const Guards& guards,
                 Caller caller, const grpc::GenericCallbackServerContext& call,
                 std::unique_ptr<ClientPlaces::Place> place)
      : services_(services),
        guards_(guards),
        caller_(std::move(caller)),
        peer_(call.peer()),
        connection_(ConnectionOf(guards, call)),
        place_(std::move(place)) {
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
    if (connection_ != nullptr) connection_->Took(in.Length());
    const absl::Status often = std::exchange(first_, false)
                                   ? absl::OkStatus()
                                   : TakeRequest(guards_, caller_, peer_);
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
  const Caller caller_;
  const std::string peer_;
  const std::shared_ptr<OpenConnection> connection_;
  const std::unique_ptr<ClientPlaces::Place> place_;
  bool first_ = true;
  grpc::ByteBuffer in_, out_;
};

// Who is asked for no token where others are. Behind the address of one that
// goes on after refusals there may be others, who have tokens.
absl::StatusOr<Caller> StrangerOf(
    const Guards& guards, const grpc::GenericCallbackServerContext& context) {
  const Caller stranger = Caller::Anybody();
  const absl::Status often = TakeRequest(guards, stranger, context.peer());
  const auto connection = ConnectionOf(guards, context);
  if (connection != nullptr) connection->Took(0);
  if (often.ok()) return stranger;
  CountRefusal(guards, /*shut=*/false, connection.get());
  return often;
}

}  // namespace

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

OtherMethods::OtherMethods(Gate* gate, const Guards& guards,
                           std::vector<std::string> services)
    : gate_(gate),
      guards_(guards),
      services_(services),
      places_("calls of health and reflection", kMostCalls, kMostOfAClient),
      health_(std::move(services), guards.connections) {
  services_.emplace_back("grpc.health.v1.Health");
  services_.emplace_back("grpc.reflection.v1alpha.ServerReflection");
}

grpc::ServerGenericBidiReactor* OtherMethods::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  const bool is_health = IsHealthMethod(context->method());
  const bool is_stranger = is_health && gate_->asks();
  const absl::StatusOr<Caller> caller =
      is_stranger ? StrangerOf(guards_, *context)
                  : CallerOf(gate_, guards_, *context);
  if (!caller.ok()) return new RefusedCall(caller.status());
  auto place = places_.Take(ClientName(*caller, context->peer()));
  if (!place.ok()) {
    guards_.Refused(Limit::kClientRequests);
    CountRefusal(guards_, /*shut=*/!is_stranger && caller->id.empty(),
                 ConnectionOf(guards_, *context).get());
    return new RefusedCall(place.status());
  }
  if (is_health) {
    return health_.Open(*context, *std::move(place),
                        ConnectionOf(guards_, *context));
  }
  if (context->method() == kReflection) {
    return new ReflectionCall(services_, guards_, *caller, *context,
                              *std::move(place));
  }
  return new RefusedCall(absl::UnimplementedError(
      absl::StrCat("there is no method '",
                   EscapeForTerminal(context->method().substr(0, 200)), "'")));
}

}  // namespace gradtap::server

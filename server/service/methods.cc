#include "server/service/methods.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/auth/grpc_door.h"
#include "server/service/reflection_call.h"

namespace gradtap::server {
namespace {

constexpr std::uint32_t kMostOthers = 512;
constexpr std::uint32_t kMostOthersOfAClient = 64;

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

Methods::Methods(Gate* gate, const Guards& guards,
                 std::vector<std::string> services, std::uint32_t max_calls)
    : gate_(gate),
      guards_(guards),
      services_(services),
      requests_("calls", max_calls, max_calls - max_calls / 4),
      others_("calls of health and reflection", kMostOthers,
              kMostOthersOfAClient),
      health_(std::move(services), guards) {
  services_.emplace_back("grpc.health.v1.Health");
  services_.emplace_back("grpc.reflection.v1alpha.ServerReflection");
}

void Methods::Serve(const std::string& path, OpenFn open) {
  methods_[path] = std::move(open);
}

absl::StatusOr<CallHead> Methods::Admit(
    ClientPlaces* places, Limit limit, absl::StatusOr<Caller> caller,
    bool stranger, grpc::GenericCallbackServerContext* context) {
  if (!caller.ok()) return caller.status();
  CallHead head;
  head.context = context;
  head.gate = gate_;
  head.caller = *std::move(caller);
  head.connection = ConnectionOf(guards_, *context);
  bool by_itself = false;
  auto place =
      places->Take(ClientName(head.caller, context->peer()), &by_itself);
  if (!place.ok()) {
    guards_.Refused(limit);
    if (by_itself) {
      CountRefusal(guards_, /*shut=*/!stranger && head.caller.id.empty(),
                   head.connection.get());
    }
    return place.status();
  }
  head.place = *std::move(place);
  return head;
}

grpc::ServerGenericBidiReactor* Methods::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  const std::string& path = context->method();
  const bool is_health = IsHealthMethod(path);
  const bool is_reflection = IsReflectionMethod(path);
  const bool stranger = is_health && gate_->asks();
  const bool other = is_health || is_reflection;
  absl::StatusOr<CallHead> head =
      Admit(other ? &others_ : &requests_,
            other ? Limit::kClientRequests : Limit::kOpenCalls,
            stranger ? StrangerOf(guards_, *context)
                     : CallerOf(gate_, guards_, *context),
            stranger, context);
  if (!head.ok()) return new RefusedCall(head.status());
  if (is_health) return health_.Open(*std::move(head), path);
  if (is_reflection) {
    return OpenReflection(services_, guards_, *std::move(head));
  }
  const auto method = methods_.find(path);
  if (method != methods_.end()) return method->second(*std::move(head));
  return new RefusedCall(absl::UnimplementedError(absl::StrCat(
      "there is no method '", EscapeForTerminal(path.substr(0, 200)), "'")));
}

}  // namespace gradtap::server

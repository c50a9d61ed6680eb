#include "server/auth/rights.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/names.h"

namespace gradtap::server {

std::string_view NameOf(Right right) {
  switch (right) {
    case Right::kNone:
      return "none";
    case Right::kWrite:
      return "write";
    case Right::kRead:
      return "read";
    case Right::kAdmin:
      return "admin";
  }
  return "";
}

std::string ToString(Rights rights) {
  if (rights.Has(Right::kAdmin)) return "admin";
  std::string text;
  for (const Right right : {Right::kWrite, Right::kRead}) {
    if (!rights.Has(right)) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", std::string(NameOf(right)));
  }
  return text;
}

absl::StatusOr<Rights> ParseRights(std::string_view text) {
  Rights rights;
  const std::vector<std::string> parts = absl::StrSplit(std::string(text), ',');
  for (const std::string& part : parts) {
    bool known = false;
    for (const Right right : {Right::kWrite, Right::kRead, Right::kAdmin}) {
      if (part != NameOf(right)) continue;
      rights.Add(right);
      known = true;
    }
    if (!known) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", EscapeForTerminal(part.substr(0, 100)),
          "' is no role; there are write, read and admin, or several: "
          "write,read"));
    }
  }
  return rights;
}

const std::vector<MethodRight>& AllMethods() {
  static const std::vector<MethodRight> methods = {
      {"/gradtap.v1.Telemetry/Session", Right::kWrite},
      {"/gradtap.v1.Query/ListRuns", Right::kRead},
      {"/gradtap.v1.Query/GetRun", Right::kRead},
      {"/gradtap.v1.Query/ListParameters", Right::kRead},
      {"/gradtap.v1.Query/GetSeries", Right::kRead},
      {"/gradtap.v1.Query/GetSnapshot", Right::kRead},
      {"/gradtap.v1.Query/GetHeatMap", Right::kRead},
      {"/gradtap.v1.Query/GetHistograms", Right::kRead},
      {"/gradtap.v1.Query/GetTop", Right::kRead},
      {"/gradtap.v1.Query/CompareRuns", Right::kRead},
      {"/gradtap.v1.Query/ListGaps", Right::kRead},
      {"/gradtap.v1.Query/Watch", Right::kRead},
      {"/gradtap.v1.Query/DeleteRun", Right::kAdmin},
      {"/gradtap.v1.Query/PinRun", Right::kAdmin},
      {"/gradtap.v1.Query/GetStatus", Right::kRead},
      {"/gradtap.v1.Query/ListAlerts", Right::kRead},
      {"/gradtap.v1.Query/WatchAlerts", Right::kRead},
      {"/gradtap.v1.Query/GetHealth", Right::kRead},
      {"/gradtap.v1.Query/GetFirstBad", Right::kRead},
      {"/gradtap.v1.Query/TestRules", Right::kRead},
      {"/gradtap.v1.Upkeep/Backup", Right::kAdmin, true},
      {"/gradtap.v1.Upkeep/Compact", Right::kAdmin, true},
      // Says that there is a collector, as /healthz does.
      {"/grpc.health.v1.Health/Check", Right::kNone},
      {"/grpc.health.v1.Health/Watch", Right::kNone},
      {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
       Right::kRead},
  };
  return methods;
}

const MethodRight* FindMethod(std::string_view path) {
  const std::vector<MethodRight>& methods = AllMethods();
  const auto it =
      std::find_if(methods.begin(), methods.end(),
                   [path](const MethodRight& one) { return one.path == path; });
  return it == methods.end() ? nullptr : &*it;
}

}  // namespace gradtap::server

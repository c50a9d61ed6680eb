#include "core/statistic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

constexpr std::array<std::string_view, kRoleCount> kRoleNames = {
    "", "weight", "grad", "grad_local", "update", "buffer"};

constexpr std::array<Role, 5> kRolesInOrder = {
    Role::kWeight, Role::kGrad, Role::kUpdate, Role::kGradLocal, Role::kBuffer};

// By value of Field.
constexpr std::array<std::string_view, 20> kFieldNames = {
    "mean",      "std",
    "abs_mean",  "min",
    "max",       "zero",
    "nan",       "pos_inf",
    "neg_inf",   "l2",
    "l1",        "sum",
    "rms",       "abs_max",
    "variance",  "zero_fraction",
    "nonfinite", "finite_fraction",
    "ratio",     "pXX"};

// What people ask for first comes first.
constexpr std::array<Field, 19> kFieldsInOrder = {Field::kL2,
                                                  Field::kRms,
                                                  Field::kMean,
                                                  Field::kStd,
                                                  Field::kVariance,
                                                  Field::kAbsMean,
                                                  Field::kMin,
                                                  Field::kMax,
                                                  Field::kAbsMax,
                                                  Field::kL1,
                                                  Field::kSum,
                                                  Field::kRatio,
                                                  Field::kZero,
                                                  Field::kZeroFraction,
                                                  Field::kNonfinite,
                                                  Field::kNan,
                                                  Field::kPosInf,
                                                  Field::kNegInf,
                                                  Field::kFiniteFraction};

bool HasField(Role role, Field field) {
  if (field != Field::kRatio) return true;
  return role == Role::kUpdate || role == Role::kGrad;
}

std::vector<std::string> NamesOfRole(Role role) {
  std::vector<std::string> names;
  for (const Field field : kFieldsInOrder) {
    if (!HasField(role, field)) continue;
    names.push_back(absl::StrCat(std::string(RoleName(role)), ".",
                                 std::string(FieldName(field))));
  }
  return names;
}

// For a message: one line, short.
std::string Quoted(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string shown = EscapeForTerminal(text.substr(0, kShown));
  return absl::StrCat("'", shown, text.size() > kShown ? "...'" : "'");
}

absl::Status UnknownRole(std::string_view name) {
  const std::string all =
      "weight, grad, update, grad_local, buffer, scalar, agent";
  if (name.find('.') == std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "statistic ", Quoted(name),
        " is not of the form role.name, such as grad.l2; roles: ", all));
  }
  const std::string role(name.substr(0, name.find('.')));
  std::vector<std::string> known = {"scalar", "agent"};
  for (const Role r : kRolesInOrder) known.emplace_back(RoleName(r));
  const std::string nearest = Nearest(role, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "statistic ", Quoted(name), " has the unknown role ", Quoted(role),
      nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
      " Roles: ", all));
}

absl::Status UnknownField(Role role, std::string_view name) {
  std::vector<std::string> known = NamesOfRole(role);
  const std::string nearest = Nearest(name, known);
  if (!nearest.empty()) {
    return absl::NotFoundError(absl::StrCat("unknown statistic ", Quoted(name),
                                            "; did you mean '", nearest, "'?"));
  }
  std::string message =
      absl::StrCat("unknown statistic ", Quoted(name), "; there are: ");
  for (const std::string& one : known) {
    absl::StrAppend(&message, &one == &known.front() ? "" : ", ", one);
  }
  const std::string role_name(RoleName(role));
  absl::StrAppend(&message, ", and quantiles such as ", role_name, ".p50 or ",
                  role_name, ".p99.9");
  return absl::NotFoundError(message);
}

// "p50", "p1e3", "p", "p-1": meant as a quantile. "pos_inf": not.
bool LooksLikeQuantile(std::string_view field) {
  if (field.empty() || field.front() != 'p') return false;
  if (field.size() == 1) return true;
  const char second = field[1];
  return (second >= '0' && second <= '9') || second == '.' || second == '-' ||
         second == '+';
}

absl::StatusOr<Statistic> ParseQuantileOf(Statistic statistic,
                                          std::string_view field) {
  const absl::StatusOr<MicroPercent> quantile = ParseQuantile(field);
  if (!quantile.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("statistic ", Quoted(statistic.name), ": ",
                     std::string(quantile.status().message())));
  }
  statistic.field = Field::kQuantile;
  statistic.quantile = *quantile;
  return statistic;
}

}  // namespace

std::string_view RoleName(Role role) {
  const auto index = static_cast<std::size_t>(role);
  return index < kRoleNames.size() ? kRoleNames[index] : std::string_view();
}

std::string_view FieldName(Field field) {
  const auto index = static_cast<std::size_t>(field);
  return index < kFieldNames.size() ? kFieldNames[index] : std::string_view();
}

absl::StatusOr<Statistic> ParseStatistic(std::string_view name) {
  Statistic statistic;
  statistic.name = std::string(name);
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos) return UnknownRole(name);
  const std::string_view head = name.substr(0, dot);
  const std::string_view tail = name.substr(dot + 1);
  if (head == "scalar" || head == "agent") {
    if (tail.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("statistic ", Quoted(name),
                       " lacks the name of a scalar after the "
                       "dot; '",
                       std::string(head), ".*' is all of them"));
    }
    const bool agent = head == "agent";
    statistic.source =
        agent ? Statistic::Source::kAgent : Statistic::Source::kScalar;
    statistic.scalar = std::string(agent && tail != "*" ? name : tail);
    return statistic;
  }
  for (const Role role : kRolesInOrder) {
    if (RoleName(role) != head) continue;
    statistic.role = role;
    for (const Field field : kFieldsInOrder) {
      if (FieldName(field) != tail || !HasField(role, field)) continue;
      statistic.field = field;
      return statistic;
    }
    if (LooksLikeQuantile(tail)) return ParseQuantileOf(statistic, tail);
    return UnknownField(role, name);
  }
  return UnknownRole(name);
}

std::vector<std::string> AllStatisticNames() {
  std::vector<std::string> all;
  for (const Role role : kRolesInOrder) {
    std::vector<std::string> names = NamesOfRole(role);
    std::move(names.begin(), names.end(), std::back_inserter(all));
  }
  return all;
}

namespace {

// The finite part, n elements of which there is at least one.
double DeriveFinite(Field field, const Moments& m) {
  const double n = static_cast<double>(m.finite);
  const double variance = m.m2 / n;
  const double std = std::sqrt(variance);
  switch (field) {
    case Field::kMean:
      return m.mean;
    case Field::kStd:
      return std;
    case Field::kAbsMean:
      return m.abs_mean;
    case Field::kMin:
      return m.min;
    case Field::kMax:
      return m.max;
    case Field::kL2:  // sqrt(n) * rms: n * rms^2 might overflow.
      return std::sqrt(n) * std::hypot(std, m.mean);
    case Field::kL1:
      return n * m.abs_mean;
    case Field::kSum:
      return n * m.mean;
    case Field::kRms:
      return std::hypot(std, m.mean);
    case Field::kAbsMax:
      return std::max(std::fabs(m.min), std::fabs(m.max));
    case Field::kVariance:
      return variance;
    default:
      return kNaN;
  }
}

double DeriveWithNumel(Field field, const Moments& m, double numel) {
  const double nonfinite = static_cast<double>(m.nan) +
                           static_cast<double>(m.pos_inf) +
                           static_cast<double>(m.neg_inf);
  switch (field) {
    case Field::kZero:
      return static_cast<double>(m.zero);
    case Field::kNan:
      return static_cast<double>(m.nan);
    case Field::kPosInf:
      return static_cast<double>(m.pos_inf);
    case Field::kNegInf:
      return static_cast<double>(m.neg_inf);
    case Field::kNonfinite:
      return nonfinite;
    case Field::kZeroFraction:
      return numel == 0 ? kNaN : static_cast<double>(m.zero) / numel;
    case Field::kFiniteFraction:
      return numel == 0 ? kNaN : static_cast<double>(m.finite) / numel;
    case Field::kRatio:     // Takes two records.
    case Field::kQuantile:  // Takes a histogram.
      return kNaN;
    case Field::kL2:
    case Field::kL1:
    case Field::kSum:
      return m.finite == 0 ? 0 : DeriveFinite(field, m);
    default:
      return m.finite == 0 ? kNaN : DeriveFinite(field, m);
  }
}

}  // namespace

double Derive(Field field, const Record& record, std::uint64_t numel) {
  const Moments m = ToMoments(record, numel);
  if (m.finite != 0) {  // As stored, not by way of the second moment.
    if (field == Field::kStd) return record.std;
    if (field == Field::kVariance) {
      return static_cast<double>(record.std) * record.std;
    }
  }
  return DeriveWithNumel(field, m, static_cast<double>(numel));
}

double Derive(Field field, const Moments& moments) {
  return DeriveWithNumel(field, moments, static_cast<double>(moments.numel()));
}

}  // namespace gradtap

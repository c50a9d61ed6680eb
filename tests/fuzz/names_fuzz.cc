// Names, which come from models and from peers (core/names.h), and what a
// person types in their place: statistics, quantiles, patterns.

#include "core/csv.h"
#include "core/histogram.h"
#include "core/json_text.h"
#include "core/name_filter.h"
#include "core/names.h"
#include "core/quantile.h"
#include "core/statistic.h"
#include "fuzz/fuzz.h"

namespace gradtap::fuzz {

void Try(std::string_view input) {
  const std::string safe = SafeName(input);
  Require(IsValidUtf8(safe), "a safe name is UTF-8");
  Require(!safe.empty() && safe.size() <= 512,
          "a safe name has 1 to 512 bytes");
  Require(SafeName(safe) == safe, "a safe name is its own");
  const std::string shown = EscapeForTerminal(input);
  for (const char c : shown) {
    const auto byte = static_cast<unsigned char>(c);
    Require(byte >= 0x20 && byte != 0x7f, "a terminal is sent no control byte");
  }
  if (IsValidRunName(input)) {
    Require(IsValidUtf8(input) && !input.empty(), "a run's name is text");
  }
  static_cast<void>(Nearest(input, {"weight", "grad", "update"}));
  const auto statistic = ParseStatistic(input);
  if (statistic.ok()) {
    Require(ParseStatistic(input).ok(), "a statistic is one each time");
    static_cast<void>(Derive(statistic->field, Record(), 10));
    static_cast<void>(Derive(statistic->field, {.mean = 1, .nan = 2}, 10));
  }
  const auto quantile = ParseQuantile(input);
  if (quantile.ok()) {
    BinCounts bins{};
    bins[FiniteBinAt(10)] = 3;
    const Quantile value = QuantileOf(bins, *quantile, -1, 1);
    Require(value.lower <= value.value && value.value <= value.upper,
            "a quantile is within its bounds");
  }
  const auto filter = NameFilter::Create({std::string(input)}, {"^$"});
  if (filter.ok()) {
    Require(filter->instructions() > 0, "a pattern is a program");
    static_cast<void>(filter->Matches("blocks.3.fc.weight"));
    Require(!filter->Matches(""), "what is excluded does not pass");
  }
}

std::vector<std::string> Seeds() {
  return {"fc1.weight",
          "grad.p99.9",
          "update.ratio",
          "scalar.loss",
          std::string("\0\x1b[31m\xff", 7),
          "a\xf0\x9f\x98\x80",
          "<script>",
          "=1+1",
          std::string(600, 'x'),
          std::string(5'000, 'x'),
          "p99.9999999",
          "p0.000001",
          "grad.p50",
          "agent.step_seconds",
          "buffer.nonfinite",
          "^blocks\\.3\\.(qkv|proj)"};
}

}  // namespace gradtap::fuzz

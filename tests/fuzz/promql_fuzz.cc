// PromQL and durations, as they come over HTTP (server/promql/parser.h).

#include "fuzz/fuzz.h"
#include "server/promql/parser.h"

namespace gradtap::fuzz {

void Try(std::string_view input) {
  const auto check = [](const absl::Status& status) {
    Require(status.ok() ||
                status.code() == absl::StatusCode::kInvalidArgument ||
                status.code() == absl::StatusCode::kUnimplemented,
            "a query is good, no PromQL, or more than ours");
    Require(status.ok() || !status.message().empty(), "an error says what");
  };
  check(server::promql::Parse(input).status());
  check(server::promql::ParseMatchers(input).status());
}

std::vector<std::string> Seeds() {
  return {
      "gradtap_run_step{run=\"a\",rank=~\"0|1\"}",
      "sum by (run) (rate(gradtap_steps_total[5m])) / 2 ^ -3",
      "topk(3, max_over_time(grad_l2{param!=\"x\"}[1h])) > bool 1e-3",
      "quantile(0.9, -up) unless on(run) avg without (rank) (loss offset 5m)",
      "{__name__=~\"gradtap_.*\",run=\"\\u00e9\\\"\"}",
      "(((1 + 2) % 3 >= 0x1f) and inf) or NaN",
      "abs(ceil(exp(floor(ln(log10(log2(sqrt(x))))))))",
      "last_over_time(x[1d2h3m4s5ms])"};
}

}  // namespace gradtap::fuzz

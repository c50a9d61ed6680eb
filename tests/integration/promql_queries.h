// Generated queries of the part of PromQL that a collector answers, over what
// remote_write_test forwards.

#ifndef GRADTAP_TESTS_INTEGRATION_PROMQL_QUERIES_H_
#define GRADTAP_TESTS_INTEGRATION_PROMQL_QUERIES_H_

#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace gradtap::server {

class PromqlQueries {
 public:
  std::string Next() {
    std::string query = Vector();
    switch (Pick(6)) {
      case 0:
        return query + Operator() + Number();
      case 1:
        return Number() + Operator() + query;
      case 2:
        return "-" + query;
      default:
        return query;
    }
  }
  std::size_t Pick(std::size_t n) { return random_() % n; }

 private:
  std::string Selector() {
    static const std::vector<std::string> kAll = {
        "gradtap_grad_l2",
        "gradtap_weight_l2{run=\"one\"}",
        "gradtap_weight_mean{param=~\"enc.*\", rank=\"0\"}",
        "gradtap_update_ratio{param!~\"dec.[13]\"}",
        "gradtap_grad_l2{rank!=\"0\", run!=\"nobody\"}",
        "{__name__=~\"gradtap_(grad|weight)_l2\", param=\"enc.2\"}",
        "gradtap_scalar",
        "gradtap_scalar{name=\"loss\"}",
        "gradtap_step{run=~\"one|two\"}",
        "gradtap_grad_l2{param=\"\"}"};
    return kAll[Pick(kAll.size())];
  }
  std::string Range() {
    static const std::vector<std::string> kAll = {"[1s]", "[7s]", "[30s]",
                                                  "[1m30s]", "[10m]"};
    return Selector() + kAll[Pick(kAll.size())];
  }
  std::string Operator() {
    static const std::vector<std::string> kAll = {
        " + ", " - ", " * ", " / ", " % ", " ^ ", " > ", " <= ", " > bool "};
    return kAll[Pick(kAll.size())];
  }
  std::string Number() {
    static const std::vector<std::string> kAll = {"0", "0.5", "2", "1e3",
                                                  "(1 + 2 * 3)"};
    return kAll[Pick(kAll.size())];
  }
  std::string Grouping() {
    static const std::vector<std::string> kAll = {"",
                                                  " by (run)",
                                                  " by (run, rank)",
                                                  " by (param)",
                                                  " without (rank)",
                                                  " by (nothing)"};
    return kAll[Pick(kAll.size())];
  }
  std::string Vector() {
    static const std::vector<std::string> kOverTime = {"avg", "count", "last",
                                                       "max", "min",   "sum"};
    static const std::vector<std::string> kAggregates = {"avg", "count", "max",
                                                         "min", "sum"};
    static const std::vector<std::string> kFunctions = {"abs", "exp", "sqrt",
                                                        "log2", "floor"};
    switch (Pick(6)) {
      case 0:
        return Selector();
      case 1:
        return kFunctions[Pick(kFunctions.size())] + "(" + OneMetric() + ")";
      case 2:
        return kOverTime[Pick(kOverTime.size())] + "_over_time(" +
               OneMetricRange() + ")";
      case 3:
        return (Pick(2) == 0 ? "topk" : "bottomk") + Grouping() + "(" +
               std::to_string(1 + Pick(3)) + ", " + Selector() + ")";
      case 4:
        return "quantile" + Grouping() + "(0.3, " + Selector() + ")";
      default:
        return kAggregates[Pick(kAggregates.size())] + Grouping() + "(" +
               Selector() + ")";
    }
  }
  // Two metrics that lose their names would have the same labels.
  std::string OneMetric() {
    std::string selector;
    do {
      selector = Selector();
    } while (selector[0] == '{');
    return selector;
  }
  std::string OneMetricRange() {
    std::string range;
    do {
      range = Range();
    } while (range[0] == '{');
    return range;
  }

  std::mt19937 random_{1};
};

}  // namespace gradtap::server

#endif  // GRADTAP_TESTS_INTEGRATION_PROMQL_QUERIES_H_

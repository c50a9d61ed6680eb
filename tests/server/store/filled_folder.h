// A data folder with something of every kind that is stored.

#ifndef GRADTAP_TESTS_SERVER_STORE_FILLED_FOLDER_H_
#define GRADTAP_TESTS_SERVER_STORE_FILLED_FOLDER_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/codec.h"
#include "core/histogram.h"
#include "server/store/rocksdb_store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server::testing {

// Writes one stream: a schema of three roles, then steps, some of which are
// skipped, have histograms or values that are not finite.
class Filler {
 public:
  static constexpr std::size_t kParameters = 10;

  // `inside`: rows have their histograms inside, as those of format 1.
  Filler(Store* store, const StreamHello& hello, bool inside = false)
      : store_(store), inside_(inside) {
    const auto stream = store->OpenStream(hello, hello.start_time_unix_ns);
    GRADTAP_EXPECT_OK(stream);
    if (!stream.ok()) return;
    id_ = stream->id;
    seq_ = stream->durable_seq;
    if (seq_ != 0) return;
    Schema schema = MakeSchema(1, kParameters);
    for (Parameter& parameter : schema.parameters) {
      parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
    }
    const std::string body = BodyOf(EncodeSchema(schema));
    StreamCommit commit = Next();
    commit.schemas.push_back({1, body});
    Commit(commit);
  }

  StreamId id() const { return id_; }

  // Steps [first, last) of the newest branch.
  void Steps(std::int64_t first, std::int64_t last) {
    while (first < last) {
      std::vector<std::string> bodies;
      std::vector<SplitStep> split;
      StreamCommit commit = Next();
      for (int i = 0; i < 64 && first < last; ++i, ++first) {
        const StepData data = Make(first);
        std::string record(EncodedStepSize(data), '\0');
        EncodeStep(data, record);
        bodies.push_back(BodyOf(record));
      }
      split.reserve(bodies.size());
      for (const std::string& body : bodies) {
        const auto view = StepView::Parse(body);
        split.push_back(SplitHistograms(body, *view));
        StreamCommit::Step step;
        step.branch = branch_;
        step.step = view->step();
        step.has_statistics = view->skipped() == GapCause::kUnspecified;
        step.records = 3 * kParameters;
        step.body = inside_ ? std::string_view(body) : split.back().row;
        if (!inside_) step.histograms = split.back().blocks;
        commit.steps.push_back(step);
      }
      Commit(commit);
    }
  }

  void Gap(std::int64_t first, std::int64_t last) {
    StreamCommit commit = Next();
    commit.gaps.push_back(
        {branch_,
         {GapCause::kRingFull, first, last,
          static_cast<std::uint64_t>(last - first + 1), "test"}});
    Commit(commit);
  }

  void Rollback(std::int64_t step) {
    StreamCommit commit = Next();
    commit.new_branches.push_back({++branch_, step});
    Commit(commit);
  }

  void Part() {
    StreamCommit commit = Next();
    commit.parts.push_back({commit.first_seq, "a piece"});
    Commit(commit);
  }

  void End() {
    StreamCommit commit = Next();
    commit.end = EndData{};
    Commit(commit);
  }

  // What step `step` is made of.
  static StepData Make(std::int64_t step) {
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = 1'700'000'000'000'000'000 + 1000 * step;
    data.schema_id = 1;
    data.scalars = {{"loss", 1.0 / static_cast<double>(step + 1)}};
    if (step % 50 == 49) {
      data.skipped = GapCause::kLoop;
      data.skipped_detail = "now and then";
      return data;
    }
    for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
      RoleColumns columns;
      columns.role = role;
      columns.Resize(kParameters);
      for (std::size_t i = 0; i < kParameters; ++i) {
        Record record;
        const double x = static_cast<double>(step) / 7 +
                         static_cast<double>(i) + static_cast<int>(role);
        record.mean = static_cast<float>(std::sin(x));
        record.std = static_cast<float>(1.5 + std::cos(x));
        record.abs_mean = static_cast<float>(1.2 + std::sin(x) / 2);
        record.min = static_cast<float>(-3 - std::cos(3 * x));
        record.max = static_cast<float>(3 + std::cos(5 * x));
        record.zero = i;
        record.nan = step % 97 == 0 && i == 3 ? 2 : 0;
        columns.Set(i, record);
        if (role == Role::kGrad && i == 5 && step % 13 == 0) {
          columns.SetAbsent(i);
        }
      }
      data.roles.push_back(std::move(columns));
    }
    if (step % 100 == 0) {
      data.histograms = {{Role::kGrad, 0, {BinOf(0.5F)}, {8}}};
    }
    return data;
  }

 private:
  StreamCommit Next() {
    StreamCommit commit;
    commit.stream = id_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns = RealClock().UnixNanos();
    return commit;
  }
  void Commit(const StreamCommit& commit) {
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
  }

  Store* const store_;
  const bool inside_;
  StreamId id_ = 0;
  std::uint64_t seq_ = 0;
  std::uint32_t branch_ = 0;
};

// Two runs: one of two streams with a chapter, windows, rows, a rollback, gaps
// and a record that is not complete; one that has ended.
inline void FillFolder(const std::string& dir) {
  StoreOptions options;
  options.data_dir = dir;
  options.seal = false;
  options.window_steps = 256;
  auto store = RocksdbStore::Open(options, nullptr);
  GRADTAP_ASSERT_OK(store);
  {
    Filler first(store->get(), MakeHello("run", "launch", 0, 'a'));
    first.Steps(0, 5000);
    first.Gap(5000, 5009);
    first.Rollback(4900);
    first.Steps(4900, 5200);
    first.Part();
    Filler second(store->get(), MakeHello("run", "launch", 1, 'b'));
    second.Steps(0, 700);
    Filler ended(store->get(), MakeHello("ended", "launch", 0, 'c'));
    ended.Steps(0, 300);
    ended.End();
  }
  for (auto sealed = (*store)->SealOne(); sealed.ok() && *sealed;) {
    sealed = (*store)->SealOne();
    GRADTAP_ASSERT_OK(sealed);
  }
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_FILLED_FOLDER_H_

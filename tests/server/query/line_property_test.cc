// The canonical line of what real recorders and validators made of random
// loops, against a model that knows nothing of streams and branches: a loop
// that goes back, or a job that starts anew, wipes the line from there on.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/books.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/recorder.h"
#include "core/codec.h"
#include "server/ingest/validate.h"
#include "server/query/line.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::MakeRing;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::MemoryStore;

constexpr std::uint32_t kRanks = 2;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kPlaces = 50;  // Some ten steps fill the ring.

// What a person who watched the loops would say is there.
class NaiveLine {
 public:
  // The job `attempt` is at `step` for the first time, or again.
  void WipeFrom(std::int64_t step, std::uint32_t attempt, std::uint32_t rank) {
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      std::erase_if(steps_[r], [&](const auto& entry) {
        return entry.first >= step &&
               (r == rank || entry.second.attempt < attempt);
      });
    }
  }
  void Put(std::int64_t step, std::uint32_t attempt, std::uint32_t rank,
           std::int64_t mark) {
    steps_[rank][step] = {attempt, mark};
  }
  std::map<std::int64_t, std::int64_t> Marks(std::uint32_t rank) const {
    std::map<std::int64_t, std::int64_t> marks;
    for (const auto& [step, entry] : steps_[rank]) marks[step] = entry.mark;
    return marks;
  }

 private:
  struct Entry {
    std::uint32_t attempt = 0;
    std::int64_t mark = 0;
  };
  std::map<std::int64_t, Entry> steps_[kRanks];
};

// One process of a job, as far as delivery goes.
class Process {
 public:
  Process(std::uint32_t attempt, std::uint32_t rank, NaiveLine* line)
      : attempt_(attempt),
        rank_(rank),
        line_(line),
        ring_(MakeRing(16 * 1024)),
        recorder_(ring_.get(), &books_, &clock_) {
    recorder_.PutSchema(::gradtap::testing::MakeSchema(1, kPlaces));
  }

  // The step that follows, `ahead` further on.
  void Step(std::int64_t ahead, std::int64_t mark) {
    const std::int64_t step = Next() + ahead;
    StepData data = ::gradtap::testing::MakeStep(step, 1, kPlaces);
    data.wall_time_unix_ns = mark;
    const std::uint64_t lost = books_.Snapshot().steps_lost;
    recorder_.PutStep(data);
    SetLast(step);
    if (books_.Snapshot().steps_lost > lost) return;
    line_->Put(step, attempt_, rank_, mark);
  }
  // One that the collector will refuse, and nobody tells of it. Only where the
  // process has been: else its start would be unknown to the collector.
  void DoomedStep() {
    const std::int64_t step = Next();
    if (step < lowest_) return;
    recorder_.PutStep(::gradtap::testing::MakeStep(step, 99, kPlaces));
    SetLast(step);
  }
  void Skip() {
    const std::int64_t step = Next();
    recorder_.PutGap(GapCause::kLoop, step, {});
    SetLast(step);
  }
  void GoBack(std::int64_t by) {
    if (went_back_ || lowest_ == kNever) return;  // It was nowhere yet.
    last_ = std::max<std::int64_t>(-1, last_ - by);
    recorder_.Rollback(last_ + 1);
    lowest_ = std::min(lowest_, last_ + 1);
    line_->WipeFrom(last_ + 1, attempt_, rank_);
    went_back_ = true;
  }
  void StartAt(std::int64_t step) { last_ = step - 1; }
  void Drain() {
    const auto entries = ::gradtap::testing::EntriesOf(*ring_);
    for (const auto& entry : entries) records_.push_back(entry.bytes);
    ::gradtap::testing::FreeOldest(ring_.get(), entries.size());
  }
  void End() {
    recorder_.PutEnd(EndReason::kFinished);
    Drain();
  }

  std::uint32_t attempt() const { return attempt_; }
  std::uint32_t rank() const { return rank_; }
  const std::vector<std::string>& records() const { return records_; }

 private:
  std::int64_t Next() const { return last_ + 1; }
  void SetLast(std::int64_t step) {
    if (step < lowest_) line_->WipeFrom(step, attempt_, rank_);
    lowest_ = std::min(lowest_, step);
    last_ = step;
    went_back_ = false;
  }

  const std::uint32_t attempt_;
  const std::uint32_t rank_;
  NaiveLine* const line_;
  ManualClock clock_;
  agent::Books books_;
  std::unique_ptr<agent::Ring> ring_;
  agent::Recorder recorder_;
  std::vector<std::string> records_;
  std::int64_t last_ = -1;
  std::int64_t lowest_ = kNever;  // Step.
  bool went_back_ = false;
};

void Live(Process* process, std::int64_t* mark) {
  if (*rc::gen::arbitrary<bool>()) {
    process->StartAt(*rc::gen::inRange<std::int64_t>(0, 30));
  }
  for (int n = *rc::gen::inRange(0, 40); n > 0; --n) {
    const int what = *rc::gen::inRange(0, 12);
    if (what == 0) process->GoBack(*rc::gen::inRange<std::int64_t>(1, 12));
    if (what == 1) process->Drain();
    if (what == 2) process->Skip();
    if (what == 3) process->DoomedStep();
    if (what == 4)
      process->Step(*rc::gen::inRange<std::int64_t>(1, 4), ++*mark);
    if (what > 4) process->Step(0, ++*mark);
  }
  if (*rc::gen::inRange(0, 4) == 0) process->GoBack(3);  // And no step.
  process->End();
}

// What is delivered, in whatever order the collector gets to see it: each
// stream only appends to itself.
void DeliverAll(const std::vector<std::unique_ptr<Process>>& processes,
                MemoryStore* store) {
  struct Feed {
    std::unique_ptr<StreamValidator> validator;
    std::size_t next = 0;
  };
  std::vector<Feed> feeds(processes.size());
  std::vector<std::size_t> waiting;
  for (std::size_t i = 0; i < processes.size(); ++i) waiting.push_back(i);
  while (!waiting.empty()) {
    const std::size_t at = *rc::gen::inRange<std::size_t>(0, waiting.size());
    const Process& process = *processes[waiting[at]];
    Feed& feed = feeds[waiting[at]];
    if (feed.validator == nullptr) {
      StreamHello hello;
      hello.run = "run";
      hello.launch = "launch" + std::to_string(process.attempt());
      hello.rank = process.rank();
      hello.process_nonce = "process" + std::to_string(waiting[at]);
      hello.start_time_unix_ns = static_cast<std::int64_t>(waiting[at]);
      OpenedStream opened;
      opened.entry = *store->OpenStream(hello, 1);
      feed.validator =
          std::make_unique<StreamValidator>(IngestLimits{}, opened);
    }
    const auto& records = process.records();
    const std::size_t count = std::min<std::size_t>(
        *rc::gen::inRange<std::size_t>(1, 30), records.size() - feed.next);
    std::string list;
    for (std::size_t i = 0; i < count; ++i) {
      AppendToRecordList(records[feed.next + i], &list);
    }
    const auto batch = feed.validator->Accept(
        feed.next + 1, static_cast<std::uint32_t>(count), CompressFrame(list));
    RC_ASSERT(batch.ok());
    RC_ASSERT(store->Commit({&(*batch)->commit, 1}).ok());
    feed.next += count;
    if (feed.next == records.size()) {
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
}

// Step to mark; fails if a step is there twice.
std::map<std::int64_t, std::int64_t> MarksOf(const Line& line,
                                             MemoryStore* store) {
  std::map<std::int64_t, std::int64_t> marks;
  for (const Segment& segment : line.segments) {
    const absl::Status scanned = store->ScanSteps(
        segment.stream->id, segment.branch, segment.begin, segment.end,
        [&](const StepRow& row) {
          const auto step = StepView::Parse(row.body);
          RC_ASSERT(step.ok());
          RC_ASSERT(marks.emplace(row.step, step->wall_time_unix_ns()).second);
          return true;
        });
    RC_ASSERT(scanned.ok());
  }
  return marks;
}

RC_GTEST_PROP(LineProperty, IsWhatTheLoopsLastMadeOfEachStep, ()) {
  NaiveLine naive;
  std::vector<std::unique_ptr<Process>> processes;
  std::int64_t mark = 0;
  const int attempts = *rc::gen::inRange(1, 4);
  for (int attempt = 0; attempt < attempts; ++attempt) {
    for (int n = *rc::gen::inRange(1, 4); n > 0; --n) {
      processes.push_back(std::make_unique<Process>(
          attempt, *rc::gen::inRange(0u, kRanks), &naive));
      Live(processes.back().get(), &mark);
    }
  }
  MemoryStore store;
  DeliverAll(processes, &store);

  const auto run = store.FindRun("run");
  RC_ASSERT(run != nullptr);
  const std::vector<Attempt> all = AttemptsOf(*run);
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    RC_ASSERT(MarksOf(CanonicalLine(all, rank), &store) == naive.Marks(rank));
  }
}

}  // namespace
}  // namespace gradtap::server

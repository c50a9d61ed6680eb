// A store in memory that can be held, and made to fail.

#ifndef GRADTAP_TESTS_SERVER_INGEST_FAKE_STORE_H_
#define GRADTAP_TESTS_SERVER_INGEST_FAKE_STORE_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/codec.h"
#include "server/store/store.h"

namespace gradtap::server::testing {

// Keeps cursors, schemas, branches and step numbers; the rest of the contract
// is the real store's business.
class FakeStore : public Store {
 public:
  // The next Commit() waits until Release(). WaitUntilHeld() returns when one
  // does.
  void Hold() {
    std::lock_guard<std::mutex> lock(mu_);
    hold_ = true;
  }
  void WaitUntilHeld() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return held_; });
  }
  void Release() {
    std::lock_guard<std::mutex> lock(mu_);
    hold_ = false;
    changed_.notify_all();
  }
  // Every call that writes gives this, until it is OK again.
  void FailWith(absl::Status status) {
    std::lock_guard<std::mutex> lock(mu_);
    failure_ = std::move(status);
  }
  std::vector<std::size_t> group_sizes() const {
    std::lock_guard<std::mutex> lock(mu_);
    return group_sizes_;
  }
  std::vector<std::int64_t> steps(StreamId id) const {
    std::lock_guard<std::mutex> lock(mu_);
    const auto found = steps_.find(id);
    return found == steps_.end() ? std::vector<std::int64_t>() : found->second;
  }

  absl::StatusOr<StreamEntry> OpenStream(const StreamHello& hello,
                                         std::int64_t) override {
    std::lock_guard<std::mutex> lock(mu_);
    if (!failure_.ok()) return failure_;
    RunEntry& run = runs_[hello.run];
    run.run = hello.run;
    for (StreamEntry& stream : run.streams) {
      if (stream.hello.rank == hello.rank &&
          stream.hello.process_nonce == hello.process_nonce) {
        for (const auto& [key, value] : hello.tags) {
          stream.hello.tags[key] = value;
        }
        return stream;
      }
    }
    StreamEntry stream;
    stream.id = ++last_id_;
    stream.hello = hello;
    stream.branches.push_back({});
    run.streams.push_back(stream);
    return stream;
  }

  absl::Status Commit(std::span<const StreamCommit> commits) override {
    std::unique_lock<std::mutex> lock(mu_);
    if (hold_) {
      held_ = true;
      changed_.notify_all();
      changed_.wait(lock, [&] { return !hold_; });
      held_ = false;
    }
    if (!failure_.ok()) return failure_;
    for (const StreamCommit& commit : commits) {
      const StreamEntry* stream = Find(commit.stream);
      if (stream == nullptr) return absl::NotFoundError("stream is gone");
      if (commit.first_seq != stream->durable_seq + 1 &&
          !FollowsInGroup(commits, commit)) {
        return absl::FailedPreconditionError("cursor");
      }
    }
    group_sizes_.push_back(commits.size());
    for (const StreamCommit& commit : commits) {
      StreamEntry* stream = Find(commit.stream);
      stream->durable_seq = commit.last_seq;
      for (const auto& schema : commit.schemas) {
        stream->schema_id = schema.schema_id;
        schemas_[{commit.stream, schema.schema_id}] =
            std::make_shared<const Schema>(*DecodeSchema(schema.body));
      }
      for (const auto& added : commit.new_branches) {
        stream->branches.emplace_back().branch = added.branch;
      }
      if (commit.drop_parts) parts_.erase(commit.stream);
      for (const auto& part : commit.parts) {
        parts_[commit.stream].emplace(part.seq, part.data);
      }
      for (const auto& step : commit.steps) {
        steps_[commit.stream].push_back(step.step);
        stream->branches[step.branch].last_step = step.step;
      }
    }
    return absl::OkStatus();
  }

  KeptParts PartsOf(StreamId id) const override {
    std::lock_guard<std::mutex> lock(mu_);
    KeptParts kept;
    const auto found = parts_.find(id);
    if (found == parts_.end()) return kept;
    for (const auto& [seq, data] : found->second) kept.Add(seq, data.size());
    return kept;
  }
  absl::Status ScanParts(
      StreamId id, std::uint64_t begin, std::uint64_t end,
      const std::function<bool(std::string_view)>& visit) override {
    std::lock_guard<std::mutex> lock(mu_);
    auto& parts = parts_[id];
    for (auto it = parts.lower_bound(begin); it != parts.end(); ++it) {
      if (it->first >= end) break;
      ++parts_read_;
      if (!visit(it->second)) break;
    }
    return absl::OkStatus();
  }
  // Since the beginning.
  std::size_t parts_read() const {
    std::lock_guard<std::mutex> lock(mu_);
    return parts_read_;
  }
  std::vector<std::shared_ptr<const RunEntry>> Runs() const override {
    std::lock_guard<std::mutex> lock(mu_);
    std::vector<std::shared_ptr<const RunEntry>> runs;
    for (const auto& [name, run] : runs_) {
      runs.push_back(std::make_shared<const RunEntry>(run));
    }
    return runs;
  }
  std::shared_ptr<const RunEntry> FindRun(std::string_view run) const override {
    std::lock_guard<std::mutex> lock(mu_);
    const auto found = runs_.find(std::string(run));
    if (found == runs_.end()) return nullptr;
    return std::make_shared<const RunEntry>(found->second);
  }
  absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      StreamId stream, std::uint32_t schema_id) override {
    std::lock_guard<std::mutex> lock(mu_);
    const auto found = schemas_.find({stream, schema_id});
    if (found == schemas_.end()) return absl::NotFoundError("schema");
    return found->second;
  }
  absl::Status ScanSteps(StreamId, std::uint32_t, std::int64_t, std::int64_t,
                         const std::function<bool(const StepRow&)>&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<std::string>> ReadHistogramBlock(
      StreamId, std::uint32_t, std::int64_t, Role, std::uint32_t) override {
    return std::optional<std::string>();
  }
  absl::StatusOr<std::optional<std::int64_t>> FindHistogramStep(
      StreamId, std::uint32_t, std::int64_t, std::int64_t, bool) override {
    return std::optional<std::int64_t>();
  }
  absl::StatusOr<std::vector<GapRow>> ReadGaps(StreamId) override {
    return std::vector<GapRow>();
  }
  absl::Status ScanByOrdinal(
      std::string_view, std::uint64_t,
      const std::function<bool(const StepRow*, const GapRow*)>&) override {
    return absl::OkStatus();
  }
  absl::Status DeleteRun(std::string_view run) override {
    std::lock_guard<std::mutex> lock(mu_);
    return runs_.erase(std::string(run)) == 1 ? absl::OkStatus()
                                              : absl::NotFoundError("run");
  }
  int AddListener(std::function<void(const std::string&)>) override {
    return 1;
  }
  void RemoveListener(int) override {}
  StoreCounters counters() const override { return {}; }
  std::uint64_t disk_bytes() const override { return 0; }
  std::uint32_t format_version() const override { return 1; }
  const std::string& data_dir() const override { return data_dir_; }

 private:
  StreamEntry* Find(StreamId id) {
    for (auto& [name, run] : runs_) {
      for (StreamEntry& stream : run.streams) {
        if (stream.id == id) return &stream;
      }
    }
    return nullptr;
  }
  static bool FollowsInGroup(std::span<const StreamCommit> commits,
                             const StreamCommit& commit) {
    for (const StreamCommit& other : commits) {
      if (other.stream == commit.stream &&
          other.last_seq + 1 == commit.first_seq) {
        return true;
      }
    }
    return false;
  }

  const std::string data_dir_ = "memory";
  mutable std::mutex mu_;
  std::condition_variable changed_;
  bool hold_ = false;
  bool held_ = false;
  absl::Status failure_;
  StreamId last_id_ = 0;
  std::map<std::string, RunEntry> runs_;
  std::map<std::pair<StreamId, std::uint32_t>, std::shared_ptr<const Schema>>
      schemas_;
  std::map<StreamId, std::vector<std::int64_t>> steps_;
  std::map<StreamId, std::map<std::uint64_t, std::string>> parts_;
  std::size_t parts_read_ = 0;
  std::vector<std::size_t> group_sizes_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_INGEST_FAKE_STORE_H_

// The Store interface in memory, for tests of what reads it: nothing is
// validated, nothing is durable.

#ifndef GRADTAP_TESTS_SUPPORT_MEMORY_STORE_H_
#define GRADTAP_TESTS_SUPPORT_MEMORY_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "core/schema.h"
#include "core/step_data.h"
#include "core/sync.h"
#include "server/store/store.h"

namespace gradtap::testing {

// If the environment has GRADTAP_TEST_WINDOW_ROWS=N, scans show each N rows of
// a branch that allow for it as a sealed window, all but the newest.
class MemoryStore : public server::Store {
 public:
  // ---- For tests: one record at a time, each a commit of its own. ----
  void AddSchema(server::StreamId stream, const Schema& schema);
  void AddStep(server::StreamId stream, std::uint32_t branch,
               const StepData& step);
  void AddGap(server::StreamId stream, std::uint32_t branch,
              const GapData& gap);
  void AddBranch(server::StreamId stream, std::uint32_t branch,
                 std::int64_t rollback_step = -1);
  void AddEnd(server::StreamId stream, const EndData& end);
  // As a collector of format 1 stored it: with its histograms inside.
  void AddStepOfFormat1(server::StreamId stream, std::uint32_t branch,
                        const StepData& step);
  // Bytes of rows handed to visitors so far.
  std::uint64_t bytes_read() const;
  // Blocks of histograms read so far, and searches for steps with some.
  std::uint64_t blocks_read() const;

  // ---- Store ----
  absl::StatusOr<server::StreamEntry> OpenStream(
      const server::StreamHello& hello, std::int64_t now_unix_ns) override;
  absl::Status Commit(std::span<const server::StreamCommit> commits) override;
  server::KeptParts PartsOf(server::StreamId) const override { return {}; }
  absl::Status ScanParts(
      server::StreamId, std::uint64_t, std::uint64_t,
      const std::function<bool(std::string_view)>&) override {
    return absl::OkStatus();
  }
  std::vector<std::shared_ptr<const server::RunEntry>> Runs() const override;
  std::shared_ptr<const server::RunEntry> FindRun(
      std::string_view run) const override;
  absl::StatusOr<std::shared_ptr<const Schema>> ReadSchema(
      server::StreamId stream, std::uint32_t schema_id) override;
  absl::Status ScanSteps(
      server::StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end,
      const std::function<bool(const server::StepRow&)>& visit) override;
  absl::StatusOr<std::optional<std::string>> ReadHistogramBlock(
      server::StreamId stream, std::uint32_t branch, std::int64_t step,
      Role role, std::uint32_t block) override;
  absl::StatusOr<std::optional<std::int64_t>> FindHistogramStep(
      server::StreamId stream, std::uint32_t branch, std::int64_t begin,
      std::int64_t end, bool highest) override;
  absl::StatusOr<std::vector<server::GapRow>> ReadGaps(
      server::StreamId stream) override;
  absl::Status ScanByOrdinal(
      std::string_view run, std::uint64_t after,
      const std::function<bool(const server::StepRow*, const server::GapRow*)>&
          visit) override;
  absl::Status DeleteRun(std::string_view run) override;
  absl::StatusOr<bool> PinRun(std::string_view run, bool pinned) override;
  absl::Status WriteAttachments(
      const server::RunEntry& run,
      std::span<const server::Attachment> attachments) override;
  absl::StatusOr<std::vector<server::Attachment>> ReadAttachments(
      const server::RunEntry& run, std::string_view prefix) override;
  int AddListener(
      std::function<void(const std::string& run)> listener) override;
  void RemoveListener(int id) override;
  server::StoreCounters counters() const override;
  std::uint64_t disk_bytes() const override { return 0; }
  std::uint32_t format_version() const override { return 1; }
  const std::string& data_dir() const override { return data_dir_; }

 private:
  struct Row {
    std::uint64_t ordinal = 0;
    std::string body;
  };
  using RowKey = std::tuple<server::StreamId, std::uint32_t, std::int64_t>;
  using BlockKey = std::pair<Role, std::uint32_t>;

  server::StreamEntry* Find(server::StreamId stream, server::RunEntry** run)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CommitLocked(const server::StreamCommit& commit, server::RunEntry* run,
                    server::StreamEntry* stream)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Touch(server::StreamEntry* stream, std::uint32_t branch,
             std::int64_t first, std::int64_t last);
  void CommitOne(server::StreamId stream, server::StreamCommit commit);
  void CommitStep(server::StreamId stream, std::uint32_t branch,
                  const StepData& step, const SplitStep& split);
  void Notify(const std::string& run);
  // The rows of a branch that share a window with the `i`th, which is set only
  // if they make one.
  std::shared_ptr<server::SealedWindow> WindowOf(
      const std::vector<std::pair<RowKey, Row>>& branch, std::size_t first);

  const std::string data_dir_;
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<server::RunEntry>, std::less<>> runs_
      ABSL_GUARDED_BY(mu_);
  std::map<RowKey, Row> rows_ ABSL_GUARDED_BY(mu_);
  std::map<RowKey, std::map<BlockKey, std::string>> blocks_
      ABSL_GUARDED_BY(mu_);
  std::map<server::StreamId, std::vector<server::GapRow>> gaps_
      ABSL_GUARDED_BY(mu_);
  std::map<std::pair<server::StreamId, std::uint32_t>,
           std::shared_ptr<const Schema>>
      schemas_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<std::string, std::string>, std::string> attachments_
      ABSL_GUARDED_BY(mu_);  // By run and name.
  server::StoreCounters counters_ ABSL_GUARDED_BY(mu_);
  server::StreamId next_stream_ ABSL_GUARDED_BY(mu_) = 1;
  std::uint64_t bytes_read_ ABSL_GUARDED_BY(mu_) = 0;
  std::uint64_t blocks_read_ ABSL_GUARDED_BY(mu_) = 0;

  // Apart, so that a listener may call the store; held while one is called.
  Mutex listeners_mu_;
  std::map<int, std::function<void(const std::string&)>> listeners_
      ABSL_GUARDED_BY(listeners_mu_);
  int next_listener_ ABSL_GUARDED_BY(listeners_mu_) = 1;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_MEMORY_STORE_H_

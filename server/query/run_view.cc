#include "server/query/run_view.h"

#include <algorithm>

#include "server/query/errors.h"

namespace gradtap::server {

const Attempt* RunView::FindAttempt(std::uint32_t label) const {
  // Labels are 1, 2, ... in order.
  if (label == 0 || label > attempts.size()) return nullptr;
  return &attempts[label - 1];
}

Line RunView::LineOf(std::uint32_t rank, std::uint32_t attempt) const {
  if (attempt == 0) return CanonicalLine(attempts, rank);
  const Attempt* found = FindAttempt(attempt);
  if (found == nullptr) return Line{rank, {}};
  return AttemptLine(*found, rank);
}

std::vector<std::uint32_t> RunView::Ranks(std::uint32_t attempt) const {
  if (attempt == 0) return RanksOf(attempts);
  const Attempt* found = FindAttempt(attempt);
  return found == nullptr ? std::vector<std::uint32_t>() : RanksOf(*found);
}

absl::StatusOr<RunView> OpenRun(const Store& store, const std::string& name) {
  if (name.empty()) {
    return absl::InvalidArgumentError("the name of the run is empty");
  }
  RunView run;
  run.entry = store.FindRun(name);
  if (run.entry == nullptr) return UnknownRun(name);
  run.attempts = AttemptsOf(*run.entry);
  return run;
}

absl::Status CheckAttempt(const RunView& run, std::uint32_t attempt) {
  if (attempt == 0 || run.FindAttempt(attempt) != nullptr) {
    return absl::OkStatus();
  }
  return absl::NotFoundError("run " + Quote(run.name()) + " has no attempt " +
                             std::to_string(attempt) +
                             "; the newest is attempt " +
                             std::to_string(run.attempts.size()));
}

absl::Status CheckRank(const RunView& run, std::uint32_t attempt,
                       std::uint32_t rank) {
  const std::vector<std::uint32_t> ranks = run.Ranks(attempt);
  if (std::binary_search(ranks.begin(), ranks.end(), rank)) {
    return absl::OkStatus();
  }
  std::string message =
      "run " + Quote(run.name()) + " has no rank " + std::to_string(rank);
  if (!ranks.empty()) {
    const auto above = std::lower_bound(ranks.begin(), ranks.end(), rank);
    const std::uint32_t near = above == ranks.end() ? ranks.back() : *above;
    message += " among its " + std::to_string(ranks.size()) +
               "; the nearest known one is " + std::to_string(near);
  }
  return absl::NotFoundError(message);
}

absl::StatusOr<std::shared_ptr<const SchemaIndex>> SchemaCache::Get(
    StreamId stream, std::uint32_t schema_id) {
  std::shared_ptr<const SchemaIndex>& index = known_[{stream, schema_id}];
  if (index == nullptr) {
    absl::StatusOr<std::shared_ptr<const Schema>> schema =
        store_->ReadSchema(stream, schema_id);
    if (!schema.ok()) return schema.status();
    index = std::make_shared<const SchemaIndex>(*std::move(schema));
  }
  return index;
}

SchemaSource NewestSchema(const RunView& run, std::uint32_t rank,
                          std::uint32_t attempt) {
  for (auto it = run.attempts.rbegin(); it != run.attempts.rend(); ++it) {
    if (attempt != 0 && it->label != attempt) continue;
    for (auto stream = it->streams.rbegin(); stream != it->streams.rend();
         ++stream) {
      if ((*stream)->hello.rank == rank && (*stream)->schema_id > 0) {
        return {*stream, it->label};
      }
    }
  }
  return {};
}

}  // namespace gradtap::server

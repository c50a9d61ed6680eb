#include "server/query/watch_question.h"

#include <algorithm>

#include "core/match_limit.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/query/gaps.h"
#include "server/query/row_find.h"

namespace gradtap::server {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;

// A schema of 10,000 parameters takes about 1 MB.
constexpr std::size_t kMaxPlans = 16;
constexpr std::size_t kMaxEncoded = 256;

// WatchResponse{ordinal, snapshot} up to where the snapshot's rows begin.
std::string HeadOf(std::uint64_t ordinal, const v1::GetSnapshotResponse& head,
                   std::size_t rows_bytes) {
  v1::WatchResponse message;
  message.set_ordinal(ordinal);
  std::string bytes = message.SerializeAsString();
  std::uint8_t tag[15];
  std::uint8_t* end = CodedOutputStream::WriteTagToArray(
      WireFormatLite::MakeTag(v1::WatchResponse::kSnapshotFieldNumber,
                              WireFormatLite::WIRETYPE_LENGTH_DELIMITED),
      tag);
  end = CodedOutputStream::WriteVarint64ToArray(
      head.ByteSizeLong() + rows_bytes, end);
  bytes.append(reinterpret_cast<const char*>(tag),
               static_cast<std::size_t>(end - tag));
  head.AppendToString(&bytes);
  return bytes;
}

SnapshotSelection WithoutParameters(const SnapshotSelection& selection) {
  SnapshotSelection head;
  head.statistics.scalars = selection.statistics.scalars;
  head.all_scalars = selection.all_scalars;
  return head;
}

}  // namespace

void RecentEvents::Add(std::shared_ptr<const EncodedEvent> event) {
  bytes_ += event->size();
  events_.push_back(std::move(event));
  while (bytes_ > max_bytes_) {
    bytes_ -= events_.front()->size();
    events_.pop_front();
  }
}

void RecentEvents::Clear() {
  events_.clear();
  bytes_ = 0;
}

absl::StatusOr<std::shared_ptr<WatchQuestion>> WatchQuestion::Create(
    const QueryEnvironment* environment, std::shared_ptr<WatchMemory> memory,
    const v1::WatchRequest& request) {
  absl::StatusOr<SnapshotSelection> selection =
      ParseSnapshotSelection(request.statistics(), request.match());
  if (!selection.ok()) return selection.status();
  return std::shared_ptr<WatchQuestion>(new WatchQuestion(
      environment, std::move(memory), request, *std::move(selection)));
}

WatchQuestion::WatchQuestion(const QueryEnvironment* environment,
                             std::shared_ptr<WatchMemory> memory,
                             const v1::WatchRequest& request,
                             SnapshotSelection selection)
    : environment_(environment),
      memory_(std::move(memory)),
      run_(request.run()),
      selection_(std::move(selection)),
      head_selection_(WithoutParameters(selection_)),
      schemas_(environment->store) {}

absl::StatusOr<std::shared_ptr<const EncodedEvent>> WatchQuestion::Encode(
    std::uint32_t rank, const Row& row, bool shared) {
  const Key key{row.segment.stream->id, row.ordinal, row.segment.attempt};
  const auto found = encoded_.find(key);
  if (found != encoded_.end()) {
    if (auto event = found->second.lock()) return event;
  }
  absl::StatusOr<std::shared_ptr<const EncodedEvent>> event =
      EncodeAnew(rank, row);
  if (!event.ok() || !shared) return event;
  if (encoded_.size() >= kMaxEncoded) {
    std::erase_if(encoded_,
                  [](const auto& entry) { return entry.second.expired(); });
  }
  encoded_[key] = *event;
  memory_->recent.Add(*event);
  return event;
}

absl::StatusOr<std::shared_ptr<const EncodedEvent>> WatchQuestion::EncodeAnew(
    std::uint32_t rank, const Row& row) {
  auto event = std::make_shared<EncodedEvent>();
  absl::StatusOr<std::shared_ptr<const LiveRows>> live = LiveRowsOf(row);
  if (!live.ok()) return live.status();
  ReadBudget budget(environment_->limits.max_read_bytes, nullptr);
  v1::WatchResponse message;
  message.set_ordinal(row.ordinal);
  v1::GetSnapshotResponse* snapshot = message.mutable_snapshot();
  const std::vector<std::size_t>* places = nullptr;
  if (*live == nullptr && row.stored->has_columns() &&
      !selection_.statistics.records.empty()) {
    const auto found = PlacesOf(row);
    if (!found.ok()) return found.status();
    places = *found;
  }
  absl::Status status =
      FillSnapshot(*environment_, run_, rank, row,
                   *live == nullptr ? selection_ : head_selection_, &schemas_,
                   &budget, snapshot, places);
  if (!status.ok()) return status;
  if (*live != nullptr) {
    for (const Statistic& statistic : selection_.statistics.records) {
      snapshot->add_statistics(statistic.name);
    }
    event->rows = (*live)->Encode(*row.stored->row_view(), &memory_->scratch);
    event->head = HeadOf(row.ordinal, *snapshot, event->rows.size());
    return event;
  }
  if (!IsRecorded(*row.stored) && snapshot->scalars().empty()) {
    *message.mutable_gap() =
        MakeGap(row.segment.attempt, rank, row.segment.branch,
                GapOfSkippedRow(*row.stored));
  }
  event->head = message.SerializeAsString();
  return event;
}

absl::StatusOr<std::shared_ptr<const LiveRows>> WatchQuestion::LiveRowsOf(
    const Row& row) {
  const StoredStep& step = *row.stored;
  if (step.row_view() == nullptr || !step.has_columns() ||
      selection_.statistics.records.empty() || !LiveRows::Suits(selection_)) {
    return nullptr;
  }
  const std::pair key{row.segment.stream->id, step.schema_id()};
  auto found = live_rows_.find(key);
  if (found == live_rows_.end()) {
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(key.first, key.second);
    if (!index.ok()) return index.status();
    auto rows = std::make_shared<const LiveRows>(*std::move(index), selection_);
    if (const auto s = MatchLimit::OfThread(); !s.ok()) return s;
    if (live_rows_.size() >= kMaxPlans) live_rows_.clear();
    found = live_rows_.emplace(key, std::move(rows)).first;
  }
  // Too large an answer: FillSnapshot() says so.
  const std::uint64_t values =
      found->second->size() * selection_.statistics.records.size();
  if (values > environment_->limits.max_values) return nullptr;
  return found->second;
}

absl::StatusOr<const std::vector<std::size_t>*> WatchQuestion::PlacesOf(
    const Row& row) {
  const std::pair key{row.segment.stream->id, row.stored->schema_id()};
  auto found = places_.find(key);
  if (found == places_.end()) {
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(key.first, key.second);
    if (!index.ok()) return index.status();
    std::vector<std::size_t> places =
        PlacesShown(selection_, (*index)->schema());
    if (const auto s = MatchLimit::OfThread(); !s.ok()) return s;
    if (places_.size() >= kMaxPlans) places_.clear();
    found = places_.emplace(key, std::move(places)).first;
  }
  return &found->second;
}

absl::StatusOr<std::shared_ptr<WatchQuestion>> WatchQuestions::Get(
    const QueryEnvironment* environment, const v1::WatchRequest& request) {
  v1::WatchRequest question;
  question.set_run(request.run());
  *question.mutable_statistics() = request.statistics();
  question.set_match(request.match());
  std::weak_ptr<WatchQuestion>& known =
      questions_[question.SerializeAsString()];
  if (auto open = known.lock()) return open;
  absl::StatusOr<std::shared_ptr<WatchQuestion>> created =
      WatchQuestion::Create(environment, memory_, request);
  if (created.ok()) known = *created;
  std::erase_if(questions_,
                [](const auto& entry) { return entry.second.expired(); });
  return created;
}

void WatchQuestions::Clear() {
  memory_->recent.Clear();
  memory_->scratch = {};
}

}  // namespace gradtap::server

// The half of RocksdbStore that keeps the disk from filling: pins, sizes,
// deletion, notes of what was removed, and what is refused while there is no
// room.

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"
#include "server/store/catalog_codec.h"
#include "server/store/damage.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_store.h"

namespace gradtap::server {
namespace {

absl::Status NoSuchRun(std::string_view run) {
  return absl::NotFoundError(
      absl::StrCat("there is no run ", std::string(run)));
}

// Not another run that was given the name later.
bool IsSameLife(const RunEntry* entry, const RunEntry& seen) {
  return entry != nullptr && entry->created_unix_ns == seen.created_unix_ns;
}

// All that a run has, but its name.
std::vector<KeyRange> RangesOf(const Engine& engine, std::uint64_t run_id) {
  std::vector<KeyRange> ranges;
  const auto add = [&](rocksdb::ColumnFamilyHandle* family, char kind) {
    const std::string begin = keys::OfRun(kind, run_id);
    ranges.push_back({family, begin, keys::After(begin)});
  };
  add(engine.rows(), 0);
  add(engine.histograms(), 0);
  add(engine.tiles(), 0);
  add(engine.rollups(), 0);
  for (const char kind : {keys::kTimeline, keys::kScalar, keys::kChapter}) {
    add(engine.windows(), kind);
  }
  for (const char kind : {keys::kSchema, keys::kGap, keys::kPart,
                          keys::kOrdinal, keys::kAttachment}) {
    add(engine.index(), kind);
  }
  for (const char kind :
       {keys::kHead, keys::kCursor, keys::kBranch, keys::kSealed}) {
    add(engine.catalog(), kind);
  }
  return ranges;
}

// In order.
template <typename Visit>
absl::Status ForEachNote(const Engine& engine, const Visit& visit) {
  const std::string begin(1, keys::kNote);
  const std::string end = keys::After(begin);
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, engine.catalog()));
  for (it->Seek(begin); it->Valid(); it->Next()) {
    visit(it->key().ToString(), View(it->value()));
  }
  return ToStatus(it->status(), kReading);
}

}  // namespace

CatalogRun RocksdbStore::FindEntry(std::string_view run) const {
  MutexLock lock(mu_);
  const auto found = catalog_.runs.find(run);
  return found == catalog_.runs.end() ? CatalogRun() : found->second;
}

absl::StatusOr<bool> RocksdbStore::PinRun(std::string_view run, bool pinned) {
  const std::string name(run);
  {
    MutexLock write_lock(write_mu_);
    if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
    const CatalogRun found = FindEntry(name);
    if (found.entry == nullptr) return NoSuchRun(name);
    if (found.entry->pinned == pinned) return false;
    const std::shared_ptr<Engine> open = engine();
    if (open == nullptr) return DatabaseFailing();
    auto entry = std::make_shared<RunEntry>(*found.entry);
    entry->pinned = pinned;
    rocksdb::WriteBatch batch;
    batch.Put(open->catalog(), keys::Run(name),
              EncodeRunHead(HeadOf(found.run_id, *entry)));
    if (const absl::Status s = WriteLocked(&batch); !s.ok()) return s;
    MutexLock lock(mu_);
    catalog_.runs[name].entry = std::move(entry);
  }
  listeners_.Notify(name);
  return true;
}

absl::StatusOr<std::uint64_t> RocksdbStore::RunDiskBytes(std::string_view run) {
  const CatalogRun found = FindEntry(run);
  if (found.entry == nullptr) return NoSuchRun(run);
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  return open->ApproximateBytes(RangesOf(*open, found.run_id));
}

absl::Status RocksdbStore::DeleteRun(std::string_view run) {
  return DeleteEntry(run, nullptr);
}

absl::Status RocksdbStore::DeleteRunAsSeen(
    const std::shared_ptr<const RunEntry>& seen) {
  return DeleteEntry(seen->run, seen.get());
}

absl::Status RocksdbStore::DeleteEntry(std::string_view run,
                                       const RunEntry* as_seen) {
  const std::string name(run);
  std::shared_ptr<Engine> open;
  std::vector<KeyRange> ranges;
  {
    MutexLock write_lock(write_mu_);
    if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
    const CatalogRun found = FindEntry(name);
    if (found.entry == nullptr) return NoSuchRun(name);
    if (as_seen != nullptr && found.entry.get() != as_seen) {
      return absl::AbortedError(absl::StrCat("run ", name, " has changed"));
    }
    if (found.entry->pinned) {
      return absl::FailedPreconditionError(
          absl::StrCat("run ", name,
                       " is pinned and was not deleted; `gradtap "
                       "unpin ",
                       name, "` first"));
    }
    open = engine();
    if (open == nullptr) return DatabaseFailing();
    ranges = RangesOf(*open, found.run_id);
    const std::uint64_t bytes = open->ApproximateBytes(ranges);
    rocksdb::WriteBatch batch;
    batch.Delete(open->catalog(), keys::Run(name));
    for (const KeyRange& range : ranges) {
      batch.DeleteRange(range.family, range.begin, range.end);
    }
    {
      MutexLock lock(mu_);
      tail_.Forget(found.run_id);  // Before anything is gone from below it.
    }
    open->BeginTakingValues();
    const absl::Status written = WriteLocked(&batch);
    if (written.ok()) {
      MutexLock lock(mu_);
      ForgetRunLocked(found);
      counters_.removed_bytes += bytes;
    }
    open->EndTakingValues();  // Who begins now finds that there is no run.
    if (!written.ok()) return written;
  }
  listeners_.Notify(name);
  for (const KeyRange& range : ranges) open->Reclaim(range);
  return absl::OkStatus();
}

void RocksdbStore::ForgetRunLocked(const CatalogRun& run) {
  for (const StreamEntry& stream : run.entry->streams) {
    catalog_.run_of.erase(stream.id);
    catalog_.parts.erase(stream.id);
    for (const Branch& branch : stream.branches) {
      catalog_.sealed.erase({stream.id, branch.branch});
      StopWaitingLocked({stream.id, branch.branch});
    }
  }
  catalog_.runs.erase(run.entry->run);
}

// There are few, and seldom a new one: what is there is looked at each time.
absl::Status RocksdbStore::AddNote(std::string_view note, std::size_t most) {
  MutexLock write_lock(write_mu_);
  if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  std::vector<std::string> there;
  const absl::Status s = ForEachNote(
      *open,
      [&](const std::string& key, std::string_view) { there.push_back(key); });
  if (!s.ok()) return s;
  std::uint64_t number = 1;
  if (!there.empty()) {
    ByteReader last(std::string_view(there.back()).substr(1));
    number = last.U64() + 1;
    if (!last.ok() || !last.at_end()) return Damaged("note");
  }
  rocksdb::WriteBatch batch;
  for (std::size_t i = 0; i + most <= there.size(); ++i) {
    batch.Delete(open->catalog(), there[i]);
  }
  if (most > 0) batch.Put(open->catalog(), keys::Note(number), Slice(note));
  return WriteLocked(&batch);
}

absl::StatusOr<std::vector<std::string>> RocksdbStore::ReadNotes() {
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  std::vector<std::string> notes;
  const absl::Status s =
      ForEachNote(*open, [&](const std::string&, std::string_view note) {
        notes.emplace_back(note);
      });
  if (!s.ok()) return s;
  return notes;
}

absl::Status RocksdbStore::WriteAttachments(
    const RunEntry& run, std::span<const Attachment> attachments) {
  MutexLock write_lock(write_mu_);
  if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
  const CatalogRun found = FindEntry(run.run);
  if (!IsSameLife(found.entry.get(), run)) return NoSuchRun(run.run);
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  rocksdb::WriteBatch batch;
  for (const Attachment& attachment : attachments) {
    const std::string key = keys::Attachment(found.run_id, attachment.name);
    if (attachment.value.empty()) {
      batch.Delete(open->index(), key);
    } else {
      batch.Put(open->index(), key, attachment.value);
    }
  }
  return WriteLocked(&batch);
}

absl::StatusOr<std::vector<Attachment>> RocksdbStore::ReadAttachments(
    const RunEntry& run, std::string_view prefix) {
  const CatalogRun found = FindEntry(run.run);
  if (!IsSameLife(found.entry.get(), run)) return NoSuchRun(run.run);
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  const std::string begin = keys::Attachment(found.run_id, prefix);
  const std::string end = keys::After(begin);
  const std::size_t name_at = keys::Attachment(found.run_id, "").size();
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> it(
      open->db()->NewIterator(options, open->index()));
  std::vector<Attachment> attachments;
  for (it->Seek(begin); it->Valid(); it->Next()) {
    attachments.push_back({std::string(View(it->key()).substr(name_at)),
                           std::string(View(it->value()))});
  }
  if (const absl::Status s = ToStatus(it->status(), kReading); !s.ok()) {
    return s;
  }
  return attachments;
}

void RocksdbStore::RefuseRecords(std::string why) {
  MutexLock write_lock(write_mu_);
  refused_ = std::move(why);
}

}  // namespace gradtap::server

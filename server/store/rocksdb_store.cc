#include "server/store/rocksdb_store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/commit_builder.h"
#include "server/store/damage.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

// The sealer reads at most so many rows before it notices a failure.
constexpr std::chrono::seconds kSealerPatience{10};
constexpr std::size_t kCachedParameters = 500'000;  // About 200 MB at worst.

// A tag or a version that is new since the stream's last Hello.
bool MergeHello(const StreamHello& from, StreamHello* into) {
  bool changed = false;
  for (const auto& [key, value] : from.tags) {
    auto [it, added] = into->tags.emplace(key, value);
    if (!added && it->second != value) {
      it->second = value;
      added = true;
    }
    changed |= added;
  }
  return changed;
}

// Whether more is to be expected of it.
bool IsLive(const RunEntry& run) {
  return std::any_of(
      run.streams.begin(), run.streams.end(),
      [](const StreamEntry& stream) { return !stream.end.has_value(); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksdbStore(
    const StoreOptions& options) {
  auto store = RocksdbStore::Open(options, nullptr);
  if (!store.ok()) return store.status();
  return std::unique_ptr<Store>(*std::move(store));
}

absl::StatusOr<std::unique_ptr<RocksdbStore>> RocksdbStore::Open(
    const StoreOptions& options, rocksdb::Env* env) {
  auto folder = DataFolder::Open(options.data_dir);
  if (!folder.ok()) return folder.status();
  std::unique_ptr<RocksdbStore> store(
      new RocksdbStore(*std::move(folder), options, env));
  {
    MutexLock lock(store->write_mu_);
    if (const absl::Status s = store->ReopenLocked(); !s.ok()) return s;
  }
  if (options.seal) {
    store->sealer_ =
        std::make_unique<Sealer>([&store = *store] { return store.SealOne(); });
  }
  return store;
}

RocksdbStore::~RocksdbStore() {
  sealer_.reset();
  MutexLock write_lock(write_mu_);
  const std::shared_ptr<Engine> open = engine();
  if (failed_ || open == nullptr) return;
  // What has been sealed and is lost here is sealed again.
  open->Flush().PermitUncheckedError();
}

RocksdbStore::RocksdbStore(std::unique_ptr<DataFolder> folder,
                           const StoreOptions& options, rocksdb::Env* env)
    : folder_(std::move(folder)),
      env_(env),
      window_steps_(options.window_steps),
      max_due_bytes_(options.max_due_bytes),
      sealed_write_bytes_(options.sealed_write_bytes),
      flush_sealed_writes_(options.flush_sealed_writes),
      shrink_bytes_(options.shrink_bytes),
      schemas_(kCachedParameters),
      tail_(TailLimits{.bytes = options.tail_bytes}) {}

std::shared_ptr<Engine> RocksdbStore::engine() const {
  MutexLock lock(mu_);
  return engine_;
}

// ---- Writing. ----

absl::Status RocksdbStore::WriteLocked(rocksdb::WriteBatch* batch) {
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) return DatabaseFailing();
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const auto started = std::chrono::steady_clock::now();
  const rocksdb::Status written = open->db()->Write(synced, batch);
  if (!written.ok()) return FailedLocked(written);
  const auto ended = std::chrono::steady_clock::now();
  sync_latency_.Record(ended - started, ended);
  MutexLock lock(mu_);
  ++counters_.syncs;
  NoteTrouble(absl::OkStatus(), &trouble_);
  return absl::OkStatus();
}

absl::Status RocksdbStore::FailedLocked(const rocksdb::Status& written) {
  failed_ = true;
  absl::Status status = ToStatus(written, "data folder: cannot write");
  MutexLock lock(mu_);
  NoteTrouble(status, &trouble_);
  return status;
}

absl::Status RocksdbStore::RecoverLocked() {
  if (failed_) {
    if (const std::shared_ptr<Engine> open = engine()) open->StopReclaiming();
  }
  const auto deadline = std::chrono::steady_clock::now() + kSealerPatience;
  while (failed_ && sealing_ && sealing_ended_.WaitUntil(write_mu_, deadline)) {
  }
  if (!failed_) return absl::OkStatus();
  absl::Status recovered;
  if (const std::shared_ptr<Engine> open = engine()) recovered = open->Probe();
  // Not DB::Resume(): it can wait for ever for a flush that failed.
  if (recovered.ok()) recovered = ReopenLocked();
  if (recovered.ok()) {
    failed_ = false;
  } else {
    MutexLock lock(mu_);
    NoteTrouble(recovered, &trouble_);
  }
  return recovered;
}

absl::Status RocksdbStore::ReopenLocked() {
  std::shared_ptr<Engine> old;
  {
    MutexLock lock(mu_);
    old = std::exchange(engine_, nullptr);
    if (old.use_count() > 1) {  // Its readers must leave first.
      engine_ = std::move(old);
      return DatabaseFailing();
    }
  }
  old.reset();
  auto opened = Engine::Open(folder_->db_dir(), env_);
  if (!opened.ok()) return opened.status();
  auto catalog = LoadCatalog(**opened);
  if (!catalog.ok()) return catalog.status();
  MutexLock lock(mu_);
  engine_ = *std::move(opened);
  catalog_ = *std::move(catalog);
  tail_.Clear();  // What failed to be written may be there after all.
  set_aside_.clear();
  for (const auto& [name, run] : catalog_.runs) {
    for (const StreamEntry& stream : run.entry->streams) {
      NoteStreamLocked(stream);
    }
  }
  for (auto it = to_seal_.begin(); it != to_seal_.end(); ++it) {
    LookAtLocked(it);
  }
  return absl::OkStatus();
}

absl::StatusOr<StreamEntry> RocksdbStore::OpenStream(const StreamHello& hello,
                                                     std::int64_t now_unix_ns) {
  absl::StatusOr<StreamEntry> stream = absl::UnknownError("");
  {
    MutexLock write_lock(write_mu_);
    if (!refused_.empty()) return absl::ResourceExhaustedError(refused_);
    if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
    const CatalogRun run = FindEntry(hello.run);
    std::size_t i = 0;
    const std::size_t n = run.entry == nullptr ? 0 : run.entry->streams.size();
    while (i < n &&
           (run.entry->streams[i].hello.rank != hello.rank ||
            run.entry->streams[i].hello.process_nonce != hello.process_nonce)) {
      ++i;
    }
    stream = i < n ? ReturnToStreamLocked(run, i, hello, now_unix_ns)
                   : CreateStreamLocked(hello, now_unix_ns);
  }
  if (stream.ok()) listeners_.Notify(hello.run);
  return stream;
}

absl::StatusOr<StreamEntry> RocksdbStore::ReturnToStreamLocked(
    const CatalogRun& run, std::size_t index, const StreamHello& hello,
    std::int64_t now_unix_ns) {
  auto entry = std::make_shared<RunEntry>(*run.entry);
  StreamEntry& stream = entry->streams[index];
  // Durable with the stream's next commit.
  stream.last_seen_unix_ns = std::max(stream.last_seen_unix_ns, now_unix_ns);
  if (MergeHello(hello, &stream.hello)) {
    const std::shared_ptr<Engine> open = engine();
    if (open == nullptr) return DatabaseFailing();
    rocksdb::WriteBatch batch;
    batch.Put(open->catalog(), keys::Head(run.run_id, stream.id),
              EncodeHello(stream.hello));
    if (const absl::Status s = WriteLocked(&batch); !s.ok()) return s;
  }
  MutexLock lock(mu_);
  catalog_.runs[hello.run].entry = entry;
  return stream;
}

absl::StatusOr<StreamEntry> RocksdbStore::CreateStreamLocked(
    const StreamHello& hello, std::int64_t now_unix_ns) {
  CatalogRun run;
  NextIds next;
  std::shared_ptr<Engine> open;
  {
    MutexLock lock(mu_);
    open = engine_;
    next = catalog_.next;
    const auto found = catalog_.runs.find(hello.run);
    if (found != catalog_.runs.end()) run = found->second;
  }
  if (open == nullptr) return DatabaseFailing();
  std::shared_ptr<RunEntry> entry;
  if (run.entry == nullptr) {
    run.run_id = next.run_id++;
    entry = std::make_shared<RunEntry>();
    entry->run = hello.run;
    entry->created_unix_ns = now_unix_ns;
  } else {
    entry = std::make_shared<RunEntry>(*run.entry);
  }
  StreamEntry stream;
  stream.id = next.stream++;
  stream.hello = hello;
  stream.last_seen_unix_ns = now_unix_ns;
  stream.branches.push_back({});

  rocksdb::WriteBatch batch;
  rocksdb::ColumnFamilyHandle* const family = open->catalog();
  batch.Put(family, keys::Ids(), EncodeIds(next));
  batch.Put(family, keys::Run(hello.run),
            EncodeRunHead(HeadOf(run.run_id, *entry)));
  batch.Put(family, keys::Head(run.run_id, stream.id), EncodeHello(hello));
  batch.Put(family, keys::Cursor(run.run_id, stream.id), EncodeCursor(stream));
  batch.Put(family, keys::Branch(run.run_id, stream.id, 0),
            EncodeBranch(stream.branches[0]));
  if (const absl::Status s = WriteLocked(&batch); !s.ok()) return s;

  entry->streams.push_back(stream);
  MutexLock lock(mu_);
  catalog_.next = next;
  catalog_.run_of[stream.id] = hello.run;
  catalog_.runs[hello.run] = {run.run_id, std::move(entry)};
  return stream;
}

absl::Status RocksdbStore::Commit(std::span<const StreamCommit> commits) {
  if (commits.empty()) return absl::OkStatus();
  WaitForSealer();
  const auto started = std::chrono::steady_clock::now();
  std::vector<std::string> changed;
  {
    MutexLock write_lock(write_mu_);
    if (!refused_.empty()) return absl::ResourceExhaustedError(refused_);
    if (const absl::Status s = RecoverLocked(); !s.ok()) return s;
    const std::shared_ptr<Engine> open = engine();
    if (open == nullptr) return DatabaseFailing();
    CommitBuilder builder(*open);
    for (const StreamCommit& commit : commits) {
      if (builder.Needs(commit.stream)) {
        CommitBuilder::StreamState state;
        MutexLock lock(mu_);
        if (const CatalogRun* run = catalog_.FindStream(commit.stream)) {
          state.run = *run;
          const auto parts = catalog_.parts.find(commit.stream);
          if (parts != catalog_.parts.end()) state.parts = parts->second;
        }
        builder.SetStream(commit.stream, std::move(state));
      }
      if (const absl::Status s = builder.Add(commit); !s.ok()) return s;
    }
    builder.Finish();
    if (const absl::Status s = WriteLocked(builder.batch()); !s.ok()) return s;

    MutexLock lock(mu_);
    for (auto& [name, run] : builder.runs()) {
      changed.push_back(name);
      tail_.Append(run.run_id, std::move(run.records), IsLive(run.entry));
      catalog_.runs[name] = {
          run.run_id, std::make_shared<const RunEntry>(std::move(run.entry))};
    }
    for (auto& [id, stream] : builder.streams()) {
      if (stream.parts.parts == 0) {
        catalog_.parts.erase(id);
      } else {
        catalog_.parts[id] = stream.parts;
      }
      if (const CatalogRun* run = catalog_.FindStream(id)) {
        NoteStreamLocked(run->entry->streams[IndexOf(*run->entry, id)]);
      }
    }
    counters_.stored_steps += builder.counters().stored_steps;
    counters_.stored_values += builder.counters().stored_values;
    counters_.stored_bytes += builder.counters().stored_bytes;
    counters_.rejected_records += builder.counters().rejected_records;
    counters_.commits += builder.counters().commits;
  }
  const auto ended = std::chrono::steady_clock::now();
  commit_latency_.Record(ended - started, ended);
  for (const std::string& run : changed) listeners_.Notify(run);
  return absl::OkStatus();
}

int RocksdbStore::AddListener(
    std::function<void(const std::string& run)> listener) {
  return listeners_.Add(std::move(listener));
}

void RocksdbStore::RemoveListener(int id) { listeners_.Remove(id); }

}  // namespace gradtap::server

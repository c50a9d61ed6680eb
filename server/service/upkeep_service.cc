#include "server/service/upkeep_service.h"

#include <time.h>

#include <exception>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/service/request_bytes.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

// Absolute, without dots and links, as far as it exists.
fs::path Resolved(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error).lexically_normal();
  fs::path resolved = fs::weakly_canonical(absolute, error);
  if (error) resolved = absolute;
  return resolved.has_filename() ? resolved : resolved.parent_path();
}

bool IsWithin(const fs::path& path, const fs::path& folder) {
  auto part = path.begin();
  for (const fs::path& wanted : folder) {
    if (part == path.end() || *part != wanted) return false;
    ++part;
  }
  return true;
}

// "20261129-041500Z".
std::string NameOfTime(std::int64_t unix_ns) {
  const time_t seconds = unix_ns / 1'000'000'000;
  struct tm utc {};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  const std::size_t n = ::strftime(text, sizeof(text), "%Y%m%d-%H%M%SZ", &utc);
  return std::string(text, n);
}

std::int64_t NanosSince(std::chrono::steady_clock::time_point start,
                        const Clock& clock) {
  return std::chrono::nanoseconds(clock.Steady() - start).count();
}

}  // namespace

absl::StatusOr<std::string> BackupFolder(const std::string& option,
                                         const std::string& data_dir) {
  if (option == "off") return std::string();
  const fs::path data = Resolved(data_dir);
  const fs::path folder =
      option.empty() ? fs::path(data.string() + ".backups") : Resolved(option);
  if (IsWithin(folder, data)) {
    return absl::InvalidArgumentError(
        absl::StrCat("backups cannot go to ", folder.string(),
                     ": it is within the data folder ", data.string(),
                     "; choose another --backup-dir, or 'off'"));
  }
  return folder.string();
}

class UpkeepService::Call : public RequestCall {
 public:
  Call(UpkeepService* service, CallHead head)
      : RequestCall(std::move(head), service->guards_), service_(service) {}

  std::atomic<bool>* cancelled() { return &cancelled_; }
  // With its thread: answers.
  virtual absl::StatusOr<grpc::ByteBuffer> Make() = 0;
  void Finish(absl::StatusOr<grpc::ByteBuffer> made) {
    made.ok() ? Answer(*made) : End(made.status());
  }
  void OnCancel() override { cancelled_ = true; }
  void OnDone() override { delete this; }

 protected:
  UpkeepService* const service_;

 private:
  std::atomic<bool> cancelled_{false};
};

class UpkeepService::BackupCall final : public Call {
 public:
  using Call::Call;

 private:
  void OnRequest(grpc::ByteBuffer bytes) override {
    auto request = ReadRequest<v1::BackupRequest>(guards(), std::move(bytes));
    if (!request.ok()) return End(request.status());
    name_ = (*request)->name();
    service_->Submit(this);
  }
  absl::StatusOr<grpc::ByteBuffer> Make() override {
    v1::BackupResponse response;
    const absl::Status s = service_->MakeBackup(name_, *cancelled(), &response);
    if (!s.ok()) return s;
    return ToBytes(response);
  }

  std::string name_;
};

class UpkeepService::CompactCall final : public Call {
 public:
  using Call::Call;

 private:
  void OnRequest(grpc::ByteBuffer bytes) override {
    const auto request =
        ReadRequest<v1::CompactRequest>(guards(), std::move(bytes));
    request.ok() ? service_->Submit(this) : End(request.status());
  }
  absl::StatusOr<grpc::ByteBuffer> Make() override {
    v1::CompactResponse response;
    const absl::Status s = service_->MakeCompact(cancelled(), &response);
    if (!s.ok()) return s;
    return ToBytes(response);
  }
};

UpkeepService::UpkeepService(Store* store, const Clock* clock,
                             std::string backup_dir, const Guards& guards)
    : store_(store),
      clock_(clock),
      backup_dir_(std::move(backup_dir)),
      guards_(guards),
      pool_(1, 1) {}

void UpkeepService::AddTo(Methods* methods) {
  methods->Serve(absl::StrCat("/", kName, "/Backup"), [this](CallHead head) {
    return new BackupCall(this, std::move(head));
  });
  methods->Serve(absl::StrCat("/", kName, "/Compact"), [this](CallHead head) {
    return new CompactCall(this, std::move(head));
  });
}

void UpkeepService::Shutdown(std::chrono::steady_clock::time_point deadline) {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    if (at_work_ != nullptr) *at_work_->cancelled() = true;
  }
  pool_.WaitIdle(deadline);
}

void UpkeepService::Submit(Call* call) {
  absl::Status refused;
  {
    MutexLock lock(mu_);
    if (stopping_) {
      refused = absl::UnavailableError("the collector is shutting down");
    } else if (at_work_ != nullptr) {
      refused = absl::ResourceExhaustedError(
          "a backup or a compaction is at work; try again when it has ended");
    } else {
      at_work_ = call;
    }
  }
  if (!refused.ok()) return call->Finish(refused);
  if (pool_.TrySubmit([this, call] { Work(call); })) return;
  {  // Its last task has ended, and is on its way out.
    MutexLock lock(mu_);
    at_work_ = nullptr;
  }
  call->Finish(absl::ResourceExhaustedError("try again"));
}

void UpkeepService::Work(Call* call) {
  absl::StatusOr<grpc::ByteBuffer> made;
  try {
    made = call->Make();
  } catch (const std::exception& error) {
    made = absl::InternalError(error.what());
  }
  {
    MutexLock lock(mu_);
    at_work_ = nullptr;
    if (stopping_ && absl::IsCancelled(made.status())) {
      made = absl::UnavailableError("the collector is shutting down");
    }
  }
  call->Finish(std::move(made));
}

absl::Status UpkeepService::MakeBackup(const std::string& name_untrusted,
                                       const std::atomic<bool>& cancelled,
                                       v1::BackupResponse* response) {
  if (backup_dir_.empty()) {
    return absl::FailedPreconditionError(
        "this collector makes no backups: it runs with --backup-dir off");
  }
  const std::string name =
      name_untrusted.empty() ? NameOfTime(clock_->UnixNanos()) : name_untrusted;
  if (!IsValidRunName(name) || name.front() == '.') {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", EscapeForTerminal(name.substr(0, 200)),
        "' is no name for a backup: one of [A-Za-z0-9._-]{1,128}, without a "
        "dot in front; it becomes a folder of ",
        backup_dir_, " (gradtapd --backup-dir)"));
  }
  const auto start = clock_->Steady();
  const std::string path = absl::StrCat(backup_dir_, "/", name);
  const absl::StatusOr<BackupResult> made = store_->Backup(path, cancelled);
  if (!made.ok()) return made.status();
  response->set_path(path);
  response->set_bytes(made->bytes);
  response->set_runs(made->runs);
  response->set_rows(made->rows);
  response->set_took_ns(NanosSince(start, *clock_));
  return absl::OkStatus();
}

absl::Status UpkeepService::MakeCompact(std::atomic<bool>* cancelled,
                                        v1::CompactResponse* response) {
  const auto start = clock_->Steady();
  const absl::StatusOr<CompactionResult> done = store_->Compact(cancelled);
  if (!done.ok()) return done.status();
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  for (const CompactionResult::Family& family : done->families) {
    v1::CompactResponse::Family* of = response->add_families();
    of->set_name(family.name);
    of->set_bytes_before(family.bytes_before);
    of->set_bytes_after(family.bytes_after);
    before += family.bytes_before;
    after += family.bytes_after;
  }
  response->set_bytes_before(before);
  response->set_bytes_after(after);
  response->set_took_ns(NanosSince(start, *clock_));
  return absl::OkStatus();
}

}  // namespace gradtap::server

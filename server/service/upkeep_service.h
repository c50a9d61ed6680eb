// gradtap.v1.Upkeep over gRPC: backups and compaction of the store in use.
//
// Layer: server/service. This file: grpc, store.

#ifndef GRADTAP_SERVER_SERVICE_UPKEEP_SERVICE_H_
#define GRADTAP_SERVER_SERVICE_UPKEEP_SERVICE_H_

#include <atomic>
#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "gradtap/v1/upkeep.pb.h"
#include "server/limits/guards.h"
#include "server/service/methods.h"
#include "server/service/worker_pool.h"
#include "server/store/store.h"

namespace gradtap::server {

// Where backups go: `option` is --backup-dir as it was given. Empty: beside the
// data folder, with ".backups" after its name; "off": nowhere, which is an
// empty path. kInvalidArgument if it is within the data folder.
absl::StatusOr<std::string> BackupFolder(const std::string& option,
                                         const std::string& data_dir);

// Thread-safe. Must outlive the server. One thread of its own; a call while it
// works is refused.
class UpkeepService final {
 public:
  static constexpr char kName[] = "gradtap.v1.Upkeep";

  // `store`, `clock` and what `guards` names must outlive it. Backups go into
  // folders of `backup_dir`, which BackupFolder() has given.
  UpkeepService(Store* store, const Clock* clock, std::string backup_dir,
                const Guards& guards = {});

  // Has its methods served.
  void AddTo(Methods* methods);

  // Refuses new calls with UNAVAILABLE and cancels the one at work. Returns
  // when that has ended or at the deadline.
  void Shutdown(std::chrono::steady_clock::time_point deadline);

 private:
  class Call;
  class BackupCall;
  class CompactCall;

  // Has its thread answer it, or refuses.
  void Submit(Call* call) ABSL_LOCKS_EXCLUDED(mu_);
  void Work(Call* call) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status MakeBackup(const std::string& name_untrusted,
                          const std::atomic<bool>& cancelled,
                          v1::BackupResponse* response);
  absl::Status MakeCompact(std::atomic<bool>* cancelled,
                           v1::CompactResponse* response);

  Store* const store_;
  const Clock* const clock_;
  const std::string backup_dir_;
  const Guards guards_;

  Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Call* at_work_ ABSL_GUARDED_BY(mu_) = nullptr;
  WorkerPool pool_;  // Last: its task uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_UPKEEP_SERVICE_H_

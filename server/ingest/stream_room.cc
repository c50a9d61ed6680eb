#include "server/ingest/stream_room.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

// An entry of the catalog, with what keeps it there.
constexpr std::uint64_t kOfAStream = 768;
// Of the tree that they stand in, and of their strings.
constexpr std::uint64_t kOfATag = 128;

}  // namespace

std::uint64_t StreamRoom::BytesOf(const StreamHello& hello) {
  std::uint64_t bytes = kOfAStream + hello.run.size() + hello.launch.size() +
                        hello.host.size() + hello.agent_version.size() +
                        hello.torch_version.size();
  for (const auto& [key, value] : hello.tags) {
    bytes += kOfATag + key.size() + value.size();
  }
  return bytes;
}

std::uint64_t StreamRoom::BytesOf(const StreamEntry& stream) {
  const std::uint64_t further =
      std::max<std::size_t>(stream.branches.size(), 1) - 1;
  return BytesOf(stream.hello) + kBranchBytes * further;
}

void StreamRoom::LookAt(
    const std::vector<std::shared_ptr<const RunEntry>>& runs) {
  MutexLock lock(mu_);
  ++looks_;
  for (const auto& entry : runs) {
    const auto [it, is_new] = runs_.try_emplace(entry->run);
    Run& run = it->second;
    if (is_new || (run.created_unix_ns >= 0 &&
                   run.created_unix_ns != entry->created_unix_ns)) {
      taken_ -= run.bytes;
      run.bytes = 0;
      for (const StreamEntry& stream : entry->streams) {
        run.bytes += BytesOf(stream);
      }
      taken_ += run.bytes;
    }
    run.created_unix_ns = entry->created_unix_ns;
    run.seen = looks_;
  }
  if (runs_.size() == runs.size()) return;
  for (auto it = runs_.begin(); it != runs_.end();) {
    if (it->second.seen == looks_) {
      ++it;
      continue;
    }
    taken_ -= it->second.bytes;
    it = runs_.erase(it);
  }
}

absl::Status StreamRoom::Take(const std::string& run, std::uint64_t bytes) {
  if (bytes == 0) return absl::OkStatus();  // However much it has already.
  MutexLock lock(mu_);
  Run& of_run = runs_[run];
  const std::uint64_t most_of_run = bytes_ / 4;
  if (of_run.bytes + bytes > most_of_run) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the streams of one run take at most ", most_of_run,
        " bytes of this collector's memory, with what their processes told of "
        "themselves and their rollbacks; record into another run"));
  }
  if (taken_ + bytes > bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the streams of all runs take at most ", bytes_,
        " bytes of this collector's memory, with what their processes told of "
        "themselves and their rollbacks; delete a run"));
  }
  of_run.bytes += bytes;
  taken_ += bytes;
  return absl::OkStatus();
}

void StreamRoom::GiveBack(const std::string& run, std::uint64_t bytes) {
  MutexLock lock(mu_);
  const auto found = runs_.find(run);
  if (found == runs_.end()) return;
  // It may have been deleted meanwhile, and counted anew.
  bytes = std::min(bytes, found->second.bytes);
  found->second.bytes -= bytes;
  taken_ -= bytes;
}

}  // namespace gradtap::server

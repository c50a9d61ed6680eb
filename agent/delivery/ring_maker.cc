#include "agent/delivery/ring_maker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/delivery/ring_memory.h"

namespace gradtap::agent {
namespace {

constexpr std::size_t kMostGivenBack = 256;

}  // namespace

void GiveBackDeadRings(const std::string& folder) {
  auto found = FindRingFiles(folder);
  if (!found.ok()) return;
  found->resize(std::min(found->size(), kMostGivenBack));
  for (const std::string& path : *found) {
    const auto file = OpenRingFile(path);
    if (!file.ok() || !(*file)->problems().empty()) continue;
    // Let go of, it is trimmed.
    const std::unique_ptr<Ring> ring = (*file)->TakeRing();
    if (ring->first_seq() > ring->last_seq()) (void)(*file)->Remove();
  }
}

absl::StatusOr<MadeRing> MakeRing(RingFileOptions options,
                                  std::uint64_t bytes) {
  options.capacity_bytes = bytes;
  options.reserve_bytes = std::min<std::uint64_t>(kRingReserveBytes, bytes / 8);
  MadeRing made;
  std::string why = "no folder is named for its file";
  if (!options.folder.empty()) {
    GiveBackDeadRings(options.folder);
    auto file = RingFile::Create(options);
    if (file.ok()) {
      made.file = *std::move(file);
      made.ring = made.file->TakeRing();
      made.place = absl::StrCat(made.file->path(), ", survives the process");
      return made;
    }
    why = std::string(file.status().message());
  }
  auto memory = RingMemory::Create(bytes);
  if (!memory.ok()) return memory.status();
  auto ring = Ring::Create(*std::move(memory), options.reserve_bytes);
  if (!ring.ok()) return ring.status();
  made.ring = *std::move(ring);
  made.place = absl::StrCat("memory only: ", why);
  return made;
}

absl::Status SettleRingFile(RingFile* file, const Ring& ring) {
  if (file == nullptr) return absl::OkStatus();
  // In this order: the producer is at its end, the consumer may go on.
  if (ring.first_seq() > ring.last_seq()) return file->Remove();
  file->Trim();
  return absl::OkStatus();
}

}  // namespace gradtap::agent

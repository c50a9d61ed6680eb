#include "sim/sim_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "agent/spool/folder.h"
#include "agent/spool/segment.h"

namespace gradtap::sim {
namespace {

namespace fs = std::filesystem;

// Memory, if there is any: the files are small and many.
std::string Somewhere() {
  const std::string memory = "/dev/shm";
  return ::access(memory.c_str(), W_OK) == 0
             ? memory
             : fs::temp_directory_path().string();
}

std::string PathOf(int fd) {
  char path[4096];
  const ssize_t n = ::readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), path,
                               sizeof(path) - 1);
  return n < 0 ? std::string() : std::string(path, static_cast<std::size_t>(n));
}
std::string PathAt(int folder, const char* name) {
  if (folder == AT_FDCWD || name[0] == '/') return name;
  return absl::StrCat(PathOf(folder), "/", name);
}

bool Exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}
ino_t InodeOf(const std::string& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? about.st_ino : 0;
}
ino_t InodeOf(int fd) {
  struct stat about {};
  return ::fstat(fd, &about) == 0 ? about.st_ino : 0;
}
std::int64_t SizeOf(int fd) {
  struct stat about {};
  return ::fstat(fd, &about) == 0 ? about.st_size : 0;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// Sorted: a folder's own order is another one each time.
std::vector<fs::path> EntriesOf(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder)) {
    entries.push_back(entry.path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool IsSegment(const fs::path& path) {
  return path.extension() == ".seg" || path.extension() == ".bad";
}

}  // namespace

SimHost::SimHost(World* world, Mutant mutant)
    : world_(world),
      mutant_(mutant),
      dir_(Somewhere()),
      spools_(dir_.path() + "/spools"),
      rings_(dir_.path() + "/rings"),
      trash_(dir_.path() + "/trash") {
  fs::create_directory(trash_);
}

bool SimHost::OnDisk(const std::string& path) const {
  return path.compare(0, spools_.size(), spools_) == 0;
}

std::string SimHost::Copy(const std::string& nonce_hex) {
  const fs::path spool = spools_ + "/" + nonce_hex;
  const fs::path ring = rings_ + "/" + nonce_hex + ".ring";
  if (!fs::exists(spool) && !fs::exists(ring)) return {};
  const std::string copy = absl::StrCat(dir_.path(), "/copy", ++copies_);
  fs::create_directory(copy);
  if (fs::exists(spool)) {
    fs::copy(spool, copy + "/" + nonce_hex, fs::copy_options::recursive);
  }
  if (fs::exists(ring)) fs::copy(ring, copy + "/" + nonce_hex + ".ring");
  return copy;
}

// ---- A loss of power.

void SimHost::Note(Change change) { journal_.push_back(std::move(change)); }

void SimHost::MakeNamesSafe() {
  for (const Change& change : journal_) {
    if (change.kind != Change::Kind::kDeleted) continue;
    safe_bytes_.erase(InodeOf(change.other));
    sync_failed_.erase(InodeOf(change.other));
    ::unlink(change.other.c_str());
  }
  journal_.clear();
}

void SimHost::Undo(const Change& change) {
  switch (change.kind) {
    case Change::Kind::kMade:
      ::unlink(change.path.c_str());
      return;
    case Change::Kind::kFolderMade:
      ::rmdir(change.path.c_str());
      return;
    case Change::Kind::kRenamed:
    case Change::Kind::kDeleted:
      ::rename(change.other.c_str(), change.path.c_str());
      return;
    case Change::Kind::kFolderDeleted:
      ::mkdir(change.path.c_str(), 0700);
      return;
  }
}

void SimHost::CheckClosedSegments() const {
  if (!fs::exists(spools_)) return;
  for (const fs::path& spool : EntriesOf(spools_)) {
    std::vector<fs::path> segments = EntriesOf(spool);
    std::erase_if(segments, [](const fs::path& p) { return !IsSegment(p); });
    if (!segments.empty()) segments.pop_back();  // Open, maybe.
    for (const fs::path& segment : segments) {
      const ino_t inode = InodeOf(segment.string());
      Require(!safe_bytes_.contains(inode) || sync_failed_.contains(inode),
              "the closed segment ", segment.filename().string(),
              " would not survive a loss of power");
      const auto named = [&segment](const Change& change) {
        return change.kind == Change::Kind::kRenamed &&
               change.other == segment.string();
      };
      Require(names_sync_failed_ ||
                  std::none_of(journal_.begin(), journal_.end(), named),
              "the name of the closed segment ", segment.filename().string(),
              " would not survive a loss of power");
    }
  }
}

void SimHost::TearFiles() {
  Random& random = world_->random();
  for (const fs::path& spool : EntriesOf(spools_)) {
    for (const fs::path& file : EntriesOf(spool)) {
      const auto found = safe_bytes_.find(InodeOf(file.string()));
      // What a failed sync has left in doubt stays: holes in the middle are for
      // spool_test.
      if (found == safe_bytes_.end() || sync_failed_.contains(found->first)) {
        continue;
      }
      const auto size = static_cast<std::int64_t>(fs::file_size(file));
      const std::int64_t unsafe =
          std::max<std::int64_t>(size - found->second, 0);
      const auto kept = static_cast<std::uintmax_t>(
          size - unsafe +
          static_cast<std::int64_t>(
              random.Below(static_cast<std::uint64_t>(unsafe) + 1)));
      fs::resize_file(file, kept);
      if (random.OneIn(3)) {
        fs::resize_file(file, static_cast<std::uintmax_t>(size));
      }
    }
  }
}

std::map<std::string, std::uint64_t> SimHost::LosePower() {
  CheckClosedSegments();
  const std::size_t kept = world_->random().Below(journal_.size() + 1);
  while (journal_.size() > kept) {
    Undo(journal_.back());
    journal_.pop_back();
  }
  MakeNamesSafe();
  fs::remove_all(rings_);
  std::map<std::string, std::uint64_t> left;
  if (!fs::exists(spools_)) return left;
  TearFiles();
  safe_bytes_.clear();
  sync_failed_.clear();
  for (const fs::path& spool : EntriesOf(spools_)) {
    std::uint64_t& last = left[spool.filename().string()];
    for (const fs::path& file : EntriesOf(spool)) {
      if (!IsSegment(file)) continue;
      const std::uint64_t first = std::stoull(file.stem().string());
      const auto content = agent::ParseSegment(ReadAll(file), first);
      last = std::max(last, first - 1 + content.records.size());
    }
  }
  return left;
}

// ---- The calls of a process.

ProcessDisk::Point ProcessDisk::Next() {
  if (die_in_ == 0 || --die_in_ > 0) return Point::kNone;
  return world_->random().OneIn(2) ? Point::kBefore : Point::kAfter;
}

template <typename Call>
int ProcessDisk::Do(bool may_throw, Call call) {
  const auto die = [this, may_throw] {
    dead_ = true;
    if (may_throw) throw ProcessDies();
    return -EIO;
  };
  if (dead_) return die();
  const Point point = Next();
  if (point == Point::kBefore) return die();
  const int result = call();
  return point == Point::kAfter ? die() : result;
}

int ProcessDisk::Refusal(const std::string& path) const {
  if (!host_->OnDisk(path)) return host_->memory_full ? -ENOSPC : 0;
  if (host_->state == SimHost::State::kFull) return -ENOSPC;
  return host_->state == SimHost::State::kFailsWrites ? -EIO : 0;
}

int ProcessDisk::OpenAt(int folder, const char* name, int flags, mode_t mode) {
  if ((flags & O_CREAT) == 0) {
    return dead_ ? -EIO : Syscalls::OpenAt(folder, name, flags, mode);
  }
  return Do(true, [&] {
    const std::string path = PathAt(folder, name);
    const bool is_new = !Exists(path);
    if (is_new && Refusal(path) < 0) return Refusal(path);
    const int fd = Syscalls::OpenAt(folder, name, flags, mode);
    if (fd >= 0 && is_new && host_->OnDisk(path)) {
      host_->Note({SimHost::Change::Kind::kMade, path, {}});
      host_->safe_bytes_[InodeOf(fd)] = 0;
    }
    return fd;
  });
}

int ProcessDisk::MakeFolderAt(int folder, const char* name, mode_t mode) {
  return Do(true, [&] {
    const std::string path = PathAt(folder, name);
    if (!Exists(path) && Refusal(path) < 0) return Refusal(path);
    const int made = Syscalls::MakeFolderAt(folder, name, mode);
    if (made >= 0 && host_->OnDisk(path)) {
      host_->Note({SimHost::Change::Kind::kFolderMade, path, {}});
    }
    return made;
  });
}

ssize_t ProcessDisk::Write(int fd, const iovec* pieces, int count) {
  std::size_t size = 0;
  for (int i = 0; i < count; ++i) size += pieces[i].iov_len;
  if (mutant_ == Mutant::kSpoolWritesNothing) {
    return static_cast<ssize_t>(size);
  }
  // Cut short where the disk is full, or the process dies.
  const int refused = Refusal(PathOf(fd));
  const bool dies = die_in_ == 1;
  std::size_t room = size;
  if (refused == -ENOSPC || dies) room = world_->random().Below(size + 1);
  if (refused == -ENOSPC && world_->random().OneIn(2)) room = 0;
  std::vector<iovec> cut(pieces, pieces + count);
  for (iovec& piece : cut) {
    piece.iov_len = std::min(piece.iov_len, room);
    room -= piece.iov_len;
  }
  return Do(true, [&]() -> int {
    if (refused == -EIO) return refused;
    const ino_t inode = InodeOf(fd);
    host_->safe_bytes_.try_emplace(inode, SizeOf(fd));
    const ssize_t wrote = Syscalls::Write(fd, cut.data(), count);
    return wrote == 0 && size > 0 ? refused : static_cast<int>(wrote);
  });
}

ssize_t ProcessDisk::ReadAt(int fd, char* out, std::size_t bytes,
                            off_t offset) {
  if (dead_ || (host_->state == SimHost::State::kFailsReads &&
                host_->OnDisk(PathOf(fd)))) {
    return -EIO;
  }
  return Syscalls::ReadAt(fd, out, bytes, offset);
}

int ProcessDisk::Truncate(int fd, off_t bytes) {
  return Do(true, [&] { return Syscalls::Truncate(fd, bytes); });
}

int ProcessDisk::Allocate(int fd, off_t bytes) {
  return Do(true, [&] {
    return host_->memory_full ? -ENOSPC : Syscalls::Allocate(fd, bytes);
  });
}

int ProcessDisk::PunchHole(int fd, off_t offset, off_t bytes) {
  return Do(false, [&] { return Syscalls::PunchHole(fd, offset, bytes); });
}

int ProcessDisk::SyncData(int fd) {
  return Do(false, [&] {
    if (mutant_ == Mutant::kSpoolNeverSyncs) return 0;
    if (host_->state == SimHost::State::kFailsSyncs) {
      host_->sync_failed_.insert(InodeOf(fd));
      return -EIO;
    }
    host_->safe_bytes_.erase(InodeOf(fd));
    return 0;
  });
}

int ProcessDisk::SyncFolder(int) {
  return Do(true, [&] {
    if (mutant_ == Mutant::kSpoolNeverSyncsNames) return 0;
    host_->names_sync_failed_ = host_->state == SimHost::State::kFailsSyncs;
    if (host_->names_sync_failed_) return -EIO;
    host_->MakeNamesSafe();
    return 0;
  });
}

int ProcessDisk::RenameAt(int folder, const char* from, const char* to) {
  return Do(true, [&] {
    const std::string path = PathAt(folder, from);
    if (host_->OnDisk(path) && host_->state == SimHost::State::kFailsWrites) {
      return -EIO;
    }
    const int renamed = Syscalls::RenameAt(folder, from, to);
    if (renamed >= 0 && host_->OnDisk(path)) {
      host_->Note({SimHost::Change::Kind::kRenamed, path, PathAt(folder, to)});
    }
    return renamed;
  });
}

int ProcessDisk::UnlinkAt(int folder, const char* name) {
  return Do(false, [&] {
    const std::string path = PathAt(folder, name);
    if (!host_->OnDisk(path)) {
      return Syscalls::UnlinkAt(folder, name);
    }
    if (!Exists(path)) return -ENOENT;
    if (mutant_ == Mutant::kSpoolKeepsAll) return 0;
    if (host_->state == SimHost::State::kFailsWrites) return -EIO;
    const std::string waits =
        absl::StrCat(host_->trash_, "/", ++host_->trashed_);
    if (::rename(path.c_str(), waits.c_str()) != 0) return -errno;
    host_->Note({SimHost::Change::Kind::kDeleted, path, waits});
    return 0;
  });
}

int ProcessDisk::RemoveFolder(const char* path) {
  return Do(false, [&] {
    const int removed = Syscalls::RemoveFolder(path);
    if (removed >= 0 && host_->OnDisk(path)) {
      host_->Note({SimHost::Change::Kind::kFolderDeleted, path, {}});
    }
    return removed;
  });
}

}  // namespace gradtap::sim

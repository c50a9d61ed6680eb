#include "agent/spool/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace gradtap::agent {
namespace {

constexpr char kOwner[] = "owner";
constexpr std::size_t kSeqDigits = 20;
constexpr std::size_t kNonceDigits = 32;
constexpr std::string_view kSeg = ".seg";
constexpr std::string_view kBad = ".bad";
constexpr std::string_view kTmp = ".tmp";
constexpr std::string_view kSchema = ".schema";
constexpr std::string_view kNew = ".new";
// How often somebody may clear away, too early, what is being made.
constexpr int kTries = 8;

// Of a segment, or of one that was set aside.
bool IsSegmentName(std::string_view name, std::uint64_t* first_seq) {
  return name.size() == kSeqDigits + kSeg.size() &&
         (name.ends_with(kSeg) || name.ends_with(kBad)) &&
         absl::SimpleAtoi(std::string(name.substr(0, kSeqDigits)), first_seq) &&
         *first_seq > 0;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::Status Refused(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("the spool folder ", Shown(path), " ", std::string(why)));
}

// Makes the folders that are missing.
absl::Status MakeFolders(const std::string& path, Syscalls* syscalls) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string part = path.substr(0, at);
    if (at != std::string::npos) ++at;
    const int made = syscalls->MakeFolderAt(AT_FDCWD, part.c_str(), 0700);
    if (made < 0 && made != -EEXIST) {
      struct stat about {};
      // A parent that stands already may be in a read-only place.
      if (::stat(part.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) continue;
      return FileError(part, "cannot be made", -made);
    }
  }
  return absl::OkStatus();
}

// The root, on a disk of this machine.
absl::StatusOr<int> OpenRoot(const std::string& root, Syscalls* syscalls) {
  auto fd = OpenFolder(AT_FDCWD, root, root, syscalls);
  if (!fd.ok()) return fd.status();
  Fd opened(*fd);
  const std::int64_t type = syscalls->FileSystemType(opened.get());
  if (type < 0) return FileError(root, "statfs", static_cast<int>(-type));
  if (auto local = CheckLocalFileSystem(type); !local.ok()) {
    return Refused(root, std::string(local.message()));
  }
  return opened.release();
}

bool IsAt(int folder, int parent, const std::string& name) {
  struct stat here {};
  struct stat there {};
  return ::fstat(folder, &here) == 0 &&
         ::fstatat(parent, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

// Best effort. One that is being made is locked, or its maker finds out that it
// has gone, and begins again (SpoolFolder::Create).
void RemoveUnowned(const std::string& root, int root_fd,
                   const std::string& name, Syscalls* syscalls) {
  const std::string path = absl::StrCat(root, "/", name);
  auto fd = OpenFolder(root_fd, name, path, syscalls);
  if (!fd.ok()) return;
  const Fd folder(*fd);
  if (!CheckPrivate(path, folder.get()).ok()) return;
  const auto owner =
      OwnedFile::Open(folder.get(), kOwner, O_RDWR, OwnedFile::Lock::kExclusive,
                      path, syscalls);
  if (owner.ok()) {
    const auto others =
        NamesIn(folder.get(), path, syscalls, [](std::string_view other) {
          return other != "." && other != ".." && other != kOwner;
        });
    // Only its owner gives it another name: it has that until this is done.
    if (!others.ok() || !others->empty() ||
        !IsAt(folder.get(), root_fd, name)) {
      return;
    }
    syscalls->UnlinkAt(folder.get(), kOwner);
  } else if (!absl::IsNotFound(owner.status())) {
    return;
  }
  syscalls->RemoveFolder(path.c_str());  // If nothing is in it.
}

}  // namespace

absl::Status CheckLocalFileSystem(std::int64_t type) {
  static constexpr struct {
    std::int64_t type;
    const char* name;
  } kRemote[] = {
      {0x6969, "NFS"},          {0x517b, "SMB"},
      {0xff534d42, "CIFS"},     {0xfe534d42, "SMB2"},
      {0x65735546, "FUSE"},     {0x01021997, "9P"},
      {0x00c36400, "Ceph"},     {0x0bd00bd0, "Lustre"},
      {0x47504653, "GPFS"},     {0x19830326, "BeeGFS"},
      {0x5346414f, "AFS"},      {0x6b414653, "AFS"},
      {0x73757245, "Coda"},     {0x564c, "NCP"},
      {0x7461636f, "OCFS2"},    {0x01161970, "GFS2"},
      {0x20030528, "OrangeFS"}, {0x786f4256, "VirtualBox"},
      {0xaad7aaea, "PanFS"},
  };
  for (const auto& remote : kRemote) {
    if (remote.type == type) {
      return absl::FailedPreconditionError(absl::StrCat(
          "is on a network (or user-space) file system, ", remote.name,
          ", where locks and syncs cannot be relied on: name a folder on a "
          "local disk"));
    }
  }
  return absl::OkStatus();
}

bool IsNonceName(std::string_view name) {
  return name.size() == kNonceDigits &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsUnownedName(std::string_view name) {
  return name.size() > kNew.size() && name[0] == '.' && name.ends_with(kNew) &&
         IsNonceName(name.substr(1, name.size() - 1 - kNew.size()));
}

std::string UnownedName(std::string_view nonce_name) {
  return absl::StrCat(".", std::string(nonce_name), std::string(kNew));
}

std::string SegmentName(std::uint64_t first_seq, std::string_view suffix) {
  const std::string digits = absl::StrCat(first_seq);
  return absl::StrCat(std::string(kSeqDigits - digits.size(), '0'), digits, ".",
                      std::string(suffix));
}

absl::StatusOr<std::unique_ptr<SpoolFolder>> SpoolFolder::Create(
    const std::string& root, std::string_view nonce, Syscalls* syscalls) {
  if (root.empty() || root[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("the spool folder ", Shown(root),
                     " is no absolute path: it begins with /"));
  }
  if (auto made = MakeFolders(root, syscalls); !made.ok()) return made;
  auto root_fd = OpenRoot(root, syscalls);
  if (!root_fd.ok()) return root_fd.status();
  const Fd parent(*root_fd);
  RemoveUnownedSpools(root, syscalls);
  const std::string name = absl::BytesToHexString({nonce.data(), nonce.size()});
  for (int i = 0; i < kTries; ++i) {
    auto made = TryCreate(root, parent.get(), name, syscalls);
    if (made.ok()) return made;
    // What is left of it must not be in the way of the next try.
    RemoveUnowned(root, parent.get(), UnownedName(name), syscalls);
    // Somebody has taken it for what a dead process has left.
    const bool cleared_away = absl::IsNotFound(made.status()) ||
                              absl::IsAlreadyExists(made.status()) ||
                              LiveOwner(made.status());
    if (!cleared_away) return made;
  }
  return absl::UnavailableError(
      absl::StrCat("the spool folder ", Shown(absl::StrCat(root, "/", name)),
                   " cannot be made: another process locks or deletes it each "
                   "time"));
}

absl::StatusOr<std::unique_ptr<SpoolFolder>> SpoolFolder::TryCreate(
    const std::string& root, int root_fd, const std::string& name,
    Syscalls* syscalls) {
  const std::string path = absl::StrCat(root, "/", name);
  const std::string unowned = UnownedName(name);
  const int made = syscalls->MakeFolderAt(root_fd, unowned.c_str(), 0700);
  if (made == -EEXIST) return absl::AlreadyExistsError(unowned);
  if (made < 0) return FileError(path, "cannot be made", -made);
  auto fd = OpenFolder(root_fd, unowned, path, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<SpoolFolder> folder(
      new SpoolFolder(path, *fd, SpoolUse::kTakeOver, syscalls));
  // The umask may have taken bits of ours; others got none.
  if (auto ours = CheckPrivate(path, *fd); !ours.ok()) return ours;
  if (auto locked = folder->Lock(); !locked.ok()) return locked;
  // Now that it is owned, others may see it.
  if (const int named =
          syscalls->RenameAt(root_fd, unowned.c_str(), name.c_str());
      named < 0) {
    return FileError(path, "cannot be made", -named);
  }
  if (const int synced = syscalls->SyncFolder(root_fd); synced < 0) {
    folder->RemoveIfEmpty();
    return FileError(root, "fsync", -synced);
  }
  return folder;
}

absl::StatusOr<std::unique_ptr<SpoolFolder>> SpoolFolder::Open(
    const std::string& path, SpoolUse use, Syscalls* syscalls) {
  auto fd = OpenFolder(AT_FDCWD, path, path, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<SpoolFolder> folder(
      new SpoolFolder(path, *fd, use, syscalls));
  if (use == SpoolUse::kTakeOver) {
    if (auto ours = CheckPrivate(path, *fd); !ours.ok()) return ours;
  }
  if (auto locked = folder->Lock(); !locked.ok()) return locked;
  return folder;
}

absl::Status SpoolFolder::Lock() {
  const bool copy = use_ == SpoolUse::kCopy;
  auto owner = OwnedFile::Open(
      fd_, kOwner, copy ? O_RDONLY : O_RDWR | O_CREAT,
      copy ? OwnedFile::Lock::kShared : OwnedFile::Lock::kExclusive, path_,
      syscalls_);
  if (owner.ok()) {
    owner_ = *std::move(owner);
    return absl::OkStatus();
  }
  // A copy need not have it, nor let us write.
  if (copy && (absl::IsNotFound(owner.status()) ||
               absl::IsPermissionDenied(owner.status()))) {
    return absl::OkStatus();
  }
  return owner.status();
}

SpoolFolder::~SpoolFolder() { ::close(fd_); }

absl::StatusOr<std::vector<SpoolFolder::File>> SpoolFolder::List() const {
  std::vector<File> files;
  const auto names =
      NamesIn(fd_, path_, syscalls_, [&files](std::string_view name) {
        File file;
        if (!IsSegmentName(name, &file.first_seq)) return false;
        file.name = std::string(name);
        file.bad = name.ends_with(kBad);
        files.push_back(std::move(file));
        return true;
      });
  if (!names.ok()) return names.status();
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return std::tie(a.first_seq, a.bad) < std::tie(b.first_seq, b.bad);
  });
  return files;
}

absl::StatusOr<std::vector<SpoolFolder::File>> SpoolFolder::ListSchemas()
    const {
  std::vector<File> files;
  const auto names =
      NamesIn(fd_, path_, syscalls_, [&files](std::string_view name) {
        File file;
        if (name.size() != kSeqDigits + kSchema.size() ||
            !name.ends_with(kSchema) ||
            !absl::SimpleAtoi(std::string(name.substr(0, kSeqDigits)),
                              &file.first_seq) ||
            file.first_seq == 0) {
          return false;
        }
        file.name = std::string(name);
        files.push_back(std::move(file));
        return true;
      });
  if (!names.ok()) return names.status();
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return a.first_seq < b.first_seq;
  });
  return files;
}

void SpoolFolder::RemoveIfEmpty() {
  if (use_ != SpoolUse::kTakeOver) return;
  const auto files = List();
  if (!files.ok() || !files->empty()) return;
  const auto unfinished =
      NamesIn(fd_, path_, syscalls_, [](std::string_view name) {
        return (name.size() == kSeqDigits + kTmp.size() &&
                name.ends_with(kTmp)) ||
               (name.size() == kSeqDigits + kSchema.size() &&
                name.ends_with(kSchema));
      });
  if (!unfinished.ok()) return;
  for (const std::string& name : *unfinished) {
    syscalls_->UnlinkAt(fd_, name.c_str());
  }
  syscalls_->UnlinkAt(fd_, kOwner);
  // Stays if there is anything else in it.
  syscalls_->RemoveFolder(path_.c_str());
}

void RemoveUnownedSpools(const std::string& root, Syscalls* syscalls) {
  auto fd = OpenFolder(AT_FDCWD, root, root, syscalls);
  if (!fd.ok()) return;
  const Fd folder(*fd);
  const auto names = NamesIn(folder.get(), root, syscalls, IsUnownedName);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    RemoveUnowned(root, folder.get(), name, syscalls);
  }
}

absl::StatusOr<std::vector<std::string>> FindSpools(const std::string& path) {
  auto fd = OpenFolder(AT_FDCWD, path, path, RealSyscalls());
  if (!fd.ok()) return fd.status();
  const Fd folder(*fd);
  auto found = NamesIn(folder.get(), path, RealSyscalls(), IsNonceName);
  if (!found.ok()) return found.status();
  for (std::string& name : *found) name = absl::StrCat(path, "/", name);
  if (!found->empty()) return found;
  const auto segments =
      NamesIn(folder.get(), path, RealSyscalls(), [](std::string_view name) {
        return name.size() == kSeqDigits + kSeg.size() &&
               (name.ends_with(kSeg) || name.ends_with(kBad));
      });
  if (!segments.ok()) return segments.status();
  if (!segments->empty()) found->push_back(path);
  return found;
}

}  // namespace gradtap::agent

#include "agent/delivery/ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/hash.h"

namespace gradtap::agent {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are copied as they stand in memory");

struct Head {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t capacity;
  std::uint64_t reserve;
  std::uint32_t entry_head_bytes;
  std::uint32_t identity_bytes;
  std::uint32_t spool_root_bytes;
  std::uint32_t zero;
  std::uint64_t hash;
};
constexpr std::size_t kHashedBytes = offsetof(Head, hash);
constexpr std::size_t kControlAt = 64;
constexpr std::size_t kTextAt = 256;
static_assert(sizeof(Head) == 56 && std::is_trivially_copyable_v<Head>);
static_assert(sizeof(Head) <= kControlAt &&
              kControlAt + sizeof(RingControl) <= kTextAt);

constexpr std::string_view kMagic = "GTRING01";
constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kOldestVersion = 1;
constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 20;
constexpr std::uint64_t kMaxCapacity = std::uint64_t{1} << 40;
constexpr std::size_t kNonceBytes = 16;
constexpr std::string_view kSuffix = ".ring";
constexpr int kTries = 100;

std::size_t PageBytes() {
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}
std::size_t UpToPages(std::size_t bytes) {
  return (bytes + PageBytes() - 1) / PageBytes() * PageBytes();
}

std::string FileName(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}
// "." for a bare name.
std::string FolderName(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::uint64_t HashOf(const Head& head, std::string_view texts) {
  std::string all(reinterpret_cast<const char*>(&head), kHashedBytes);
  all.append(texts);
  return StableHash64(all);
}

// Where the bytes of a ring from position `from` to `to` lie in it.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};
std::array<Range, 2> RangesOf(std::uint64_t from, std::uint64_t to,
                              std::size_t capacity) {
  const std::size_t begin = from % capacity;
  const std::size_t end = begin + (to - from);
  if (end <= capacity) return {Range{begin, end}, Range{}};
  return {Range{begin, capacity}, Range{0, end - capacity}};
}

}  // namespace

// The pages before the ring, mapped. As the ring's, not inherited by a child.
class RingFile::Header {
 public:
  static absl::StatusOr<std::shared_ptr<Header>> Map(int fd, std::size_t bytes,
                                                     const std::string& path) {
    void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED) return FileError(path, "mmap", errno);
    (void)::madvise(data, bytes, MADV_DONTFORK);
    return std::make_shared<Header>(static_cast<char*>(data), bytes);
  }
  Header(char* data, std::size_t size)
      : data_(data), size_(size), process_(::getpid()) {}
  ~Header() {
    if (::getpid() == process_) ::munmap(data_, size_);
  }
  Header(const Header&) = delete;
  Header& operator=(const Header&) = delete;

  char* data() const { return data_; }

 private:
  char* const data_;
  const std::size_t size_;
  const pid_t process_;
};

RingFile::RingFile(std::string path, int folder, Syscalls* syscalls)
    : path_(std::move(path)),
      name_(FileName(path_)),
      folder_(folder),
      syscalls_(syscalls),
      process_(::getpid()) {}

RingFile::~RingFile() {
  if (::getpid() == process_) Trim();
  ring_.reset();
  file_.reset();
  ::close(folder_);
}

// ---- Made.

absl::StatusOr<std::unique_ptr<RingFile>> RingFile::Create(
    const RingFileOptions& options, Syscalls* syscalls) {
  const std::string& folder = options.folder;
  if (folder.empty() || folder[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("the folder for rings, ", Shown(folder),
                     ", is no absolute path: it begins with /"));
  }
  const std::string& nonce = options.identity.process_nonce;
  if (nonce.size() != kNonceBytes) {
    return absl::InvalidArgumentError("the process nonce has 16 bytes");
  }
  const int made = syscalls->MakeFolderAt(AT_FDCWD, folder.c_str(), 0700);
  if (made < 0 && made != -EEXIST) {
    return FileError(folder, "cannot be made", -made);
  }
  auto fd = OpenFolder(AT_FDCWD, folder, folder, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<RingFile> file(
      new RingFile(absl::StrCat(folder, "/", absl::BytesToHexString(nonce),
                                std::string(kSuffix)),
                   *fd, syscalls));
  if (auto ours = CheckPrivate(folder, *fd); !ours.ok()) return ours;
  if (auto status = file->Make(options); !status.ok()) return status;
  return file;
}

absl::Status RingFile::Make(const RingFileOptions& options) {
  identity_ = options.identity;
  spool_root_ = options.spool_root;
  capacity_ = UpToPages(options.capacity_bytes);
  header_bytes_ =
      UpToPages(kTextAt + EncodeSegmentHeader(options.identity).size() +
                options.spool_root.size());
  if (capacity_ == 0 || capacity_ > kMaxCapacity ||
      header_bytes_ > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a ring of ", options.capacity_bytes, " bytes is out of range"));
  }
  RemoveUnfinished();
  const std::int64_t free = syscalls_->FreeBytes(folder_);
  if (free < 0) return FileError(path_, "statvfs", static_cast<int>(-free));
  if (header_bytes_ + capacity_ > static_cast<std::uint64_t>(free) / 2) {
    return absl::ResourceExhaustedError(absl::StrCat(
        Shown(path_), ": a ring of ", capacity_, " bytes would take more than ",
        "half of the ", free, " that are free there; a smaller ring_bytes ",
        "(GRADTAP_RING_BYTES) may fit, or docker run --shm-size=1g"));
  }
  for (int i = 0; i < kTries; ++i) {
    absl::Status status = TryMake(options);
    // Somebody who starts too has taken it for what a dead process has left,
    // before it was locked.
    if (!absl::IsNotFound(status) && !LiveOwner(status)) return status;
  }
  return absl::UnavailableError(
      absl::StrCat("the ring ", Shown(path_),
                   " cannot be made: another process locks or deletes it each "
                   "time"));
}

absl::Status RingFile::TryMake(const RingFileOptions& options) {
  const std::string unowned =
      UnownedName(name_.substr(0, name_.size() - kSuffix.size()));
  auto file = OwnedFile::Open(folder_, unowned, O_RDWR | O_CREAT | O_EXCL,
                              OwnedFile::Lock::kExclusive, path_, syscalls_);
  absl::Status status = file.status();
  if (status.ok()) {
    file_ = *std::move(file);
    status = Fill(options);
  }
  if (status.ok()) {
    // Now that it is owned and whole, others may see it.
    const int named =
        syscalls_->RenameAt(folder_, unowned.c_str(), name_.c_str());
    if (named == 0) return status;
    status = named == -ENOENT
                 ? absl::NotFoundError(absl::StrCat("no file ", Shown(path_)))
                 : FileError(path_, "cannot be made", -named);
  }
  syscalls_->UnlinkAt(folder_, unowned.c_str());
  ring_.reset();
  header_.reset();
  file_.reset();
  return status;
}

absl::Status RingFile::Fill(const RingFileOptions& options) {
  const int fd = file_->fd();
  const int allocated =
      syscalls_->Allocate(fd, static_cast<off_t>(header_bytes_ + capacity_));
  if (allocated < 0) {
    return FileError(
        path_, absl::StrCat("no room for a ring of ", capacity_, " bytes"),
        -allocated);
  }
  auto header = Header::Map(fd, header_bytes_, path_);
  if (!header.ok()) return header.status();
  header_ = *std::move(header);
  const std::string identity = EncodeSegmentHeader(options.identity);
  const std::string texts = identity + options.spool_root;
  Head head{};
  std::memcpy(head.magic, kMagic.data(), kMagic.size());
  head.version = kVersion;
  head.header_bytes = static_cast<std::uint32_t>(header_bytes_);
  head.capacity = capacity_;
  head.reserve = options.reserve_bytes;
  head.entry_head_bytes = sizeof(EntryHeader);
  head.identity_bytes = static_cast<std::uint32_t>(identity.size());
  head.spool_root_bytes = static_cast<std::uint32_t>(options.spool_root.size());
  head.hash = HashOf(head, texts);
  std::memcpy(header_->data(), &head, sizeof(head));
  std::memcpy(header_->data() + kTextAt, texts.data(), texts.size());
  ::new (header_->data() + kControlAt) RingControl;
  auto memory = RingMemory::MapFile(fd, capacity_, header_bytes_);
  if (!memory.ok()) return memory.status();
  auto ring =
      Ring::Create(*std::move(memory), options.reserve_bytes, MappedWords());
  if (!ring.ok()) return ring.status();
  ring_ = *std::move(ring);
  return absl::OkStatus();
}

// What others did not live to give a name. One that is being made is locked.
void RingFile::RemoveUnfinished() const {
  const auto names = NamesIn(folder_, path_, syscalls_, IsUnownedName);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    const auto file = OwnedFile::Open(
        folder_, name, O_RDWR, OwnedFile::Lock::kExclusive, path_, syscalls_);
    if (file.ok()) syscalls_->UnlinkAt(folder_, name.c_str());
  }
}

// ---- Left behind.

absl::StatusOr<std::unique_ptr<RingFile>> RingFile::Open(
    const std::string& path, SpoolUse use, Syscalls* syscalls) {
  const std::string folder = FolderName(path);
  auto fd = OpenFolder(AT_FDCWD, folder, folder, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<RingFile> file(new RingFile(path, *fd, syscalls));
  if (auto status = file->Load(use); !status.ok()) return status;
  return file;
}

absl::Status RingFile::Load(SpoolUse use) {
  const bool copy = use == SpoolUse::kCopy;
  auto file = OwnedFile::Open(
      folder_, name_, copy ? O_RDONLY : O_RDWR,
      copy ? OwnedFile::Lock::kShared : OwnedFile::Lock::kExclusive, path_,
      syscalls_);
  if (!file.ok()) return file.status();
  file_ = *std::move(file);
  if (!copy) {
    if (auto ours = CheckPrivate(path_, file_->fd()); !ours.ok()) return ours;
  }
  struct stat about {};
  if (::fstat(file_->fd(), &about) != 0) {
    return FileError(path_, "fstat", errno);
  }
  RingControl words;
  const auto file_bytes = static_cast<std::size_t>(about.st_size);
  if (auto status = LoadHeader(file_bytes, &words); !status.ok()) return status;
  if (!copy) {
    auto header = Header::Map(file_->fd(), header_bytes_, path_);
    if (!header.ok()) return header.status();
    header_ = *std::move(header);
  }
  auto memory = copy ? RingMemory::Create(capacity_)
                     : RingMemory::MapFile(file_->fd(), capacity_,
                                           header_bytes_, /*present=*/false);
  if (!memory.ok()) return memory.status();
  if (copy) {
    const auto status = ReadRing(words, (*memory)->data());
    if (!status.ok()) return status;
    file_.reset();
  } else {
    CutAtHole(&words);
  }
  const RingContents contents = Ring::Inspect(**memory, words);
  for (const std::string& problem : contents.problems) {
    problems_.push_back(absl::StrCat(Shown(path_), ": ", problem));
  }
  ring_ = Ring::OpenLeft(*std::move(memory), contents,
                         copy ? nullptr : MappedWords());
  return absl::OkStatus();
}

absl::Status RingFile::LoadHeader(std::size_t file_bytes, RingControl* words) {
  if (file_bytes < kTextAt) return Damaged("is cut off");
  std::array<char, kTextAt> front{};
  if (auto read = ReadAt(0, kTextAt, front.data()); !read.ok()) return read;
  Head head{};
  std::memcpy(&head, front.data(), sizeof(head));
  if (std::string_view(head.magic, sizeof(head.magic)) != kMagic) {
    return Damaged("does not begin as a ring does");
  }
  if (head.version < kOldestVersion || head.version > kVersion ||
      head.entry_head_bytes != sizeof(EntryHeader)) {
    return absl::UnimplementedError(
        absl::StrCat(Shown(path_), " has format version ", head.version,
                     ", and this program knows ", kVersion));
  }
  const std::uint64_t text_bytes =
      std::uint64_t{head.identity_bytes} + head.spool_root_bytes;
  if (head.header_bytes > kMaxHeaderBytes || head.capacity > kMaxCapacity ||
      head.capacity == 0 || kTextAt + text_bytes > head.header_bytes) {
    return Damaged("has a header that cannot be");
  }
  if (file_bytes != head.header_bytes + head.capacity) {
    return Damaged(absl::StrCat("has ", file_bytes, " bytes in place of ",
                                head.header_bytes + head.capacity));
  }
  std::string texts(text_bytes, '\0');
  if (auto read = ReadAt(kTextAt, texts.size(), texts.data()); !read.ok()) {
    return read;
  }
  if (HashOf(head, texts) != head.hash) {
    return Damaged("has a header that does not match its checksum");
  }
  if (head.header_bytes % PageBytes() != 0 ||
      head.capacity % PageBytes() != 0) {
    return absl::UnimplementedError(absl::StrCat(
        Shown(path_), " was made where pages have another size than here, ",
        PageBytes(), " bytes"));
  }
  SegmentContent identity =
      ParseSegment(std::string_view(texts).substr(0, head.identity_bytes), 1);
  if (!identity.damage.empty() || !identity.records.empty()) {
    return Damaged(absl::StrCat("does not say whose it is: ", identity.damage));
  }
  identity_ = std::move(identity.identity);
  spool_root_ = texts.substr(head.identity_bytes);
  header_bytes_ = head.header_bytes;
  capacity_ = head.capacity;
  const auto word = [&front](std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, front.data() + kControlAt + at, sizeof(value));
    return value;
  };
  words->published = word(offsetof(RingControl, published));
  words->last_seq = word(offsetof(RingControl, last_seq));
  words->tail = word(offsetof(RingControl, tail));
  words->first_seq = word(offsetof(RingControl, first_seq));
  return absl::OkStatus();
}

void RingFile::CutAtHole(RingControl* words) {
  const std::uint64_t tail = words->tail;
  const std::uint64_t published = words->published;
  if (published < tail || published - tail > capacity_) return;
  std::uint64_t position = tail;
  for (const Range& range : RangesOf(tail, published, capacity_)) {
    const auto begin = static_cast<off_t>(header_bytes_ + range.begin);
    const auto end = static_cast<off_t>(header_bytes_ + range.end);
    if (begin == end) continue;
    const off_t hole = ::lseek(file_->fd(), begin, SEEK_HOLE);
    if (hole >= begin && hole < end) {
      words->published =
          (position + static_cast<std::uint64_t>(hole - begin)) / 8 * 8;
      problems_.push_back(
          absl::StrCat(Shown(path_), ": it has no bytes where it says that ",
                       "records are: those there cannot be read"));
      return;
    }
    position += range.end - range.begin;
  }
}

absl::Status RingFile::ReadRing(const RingControl& words, char* out) const {
  const std::uint64_t tail = words.tail;
  const std::uint64_t published = words.published;
  // Inspect() says so.
  if (published < tail || published - tail > capacity_) return absl::OkStatus();
  for (const Range& range : RangesOf(tail, published, capacity_)) {
    const auto read = ReadAt(header_bytes_ + range.begin,
                             range.end - range.begin, out + range.begin);
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

absl::Status RingFile::ReadAt(std::size_t offset, std::size_t bytes,
                              char* out) const {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = syscalls_->ReadAt(file_->fd(), out + done, bytes - done,
                                        static_cast<off_t>(offset + done));
    if (n < 0) return FileError(path_, "cannot be read", static_cast<int>(-n));
    if (n == 0) return Damaged("is cut off");
    done += static_cast<std::size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status RingFile::Damaged(const std::string& what) const {
  return absl::DataLossError(absl::StrCat(
      Shown(path_), " ", what, ": what is in it cannot be delivered"));
}

// ---- Both.

std::shared_ptr<RingControl> RingFile::MappedWords() const {
  return {header_,
          reinterpret_cast<RingControl*>(header_->data() + kControlAt)};
}

absl::Status RingFile::Remove() {
  if (removed_) return absl::OkStatus();
  if (file_ == nullptr || ::getpid() != process_) {
    return absl::FailedPreconditionError(
        absl::StrCat(Shown(path_), " is not this process's to delete"));
  }
  // It may have been deleted, or replaced by a larger one.
  if (file_->IsAt(folder_, name_)) {
    const int gone = syscalls_->UnlinkAt(folder_, name_.c_str());
    if (gone < 0) return FileError(path_, "cannot be deleted", -gone);
  }
  removed_ = true;
  return absl::OkStatus();
}

void RingFile::Trim() noexcept {
  // Where something is wrong, the words may not say where the records are.
  if (file_ == nullptr || header_ == nullptr || removed_ ||
      !problems_.empty()) {
    return;
  }
  const auto* const words =
      reinterpret_cast<RingControl*>(header_->data() + kControlAt);
  const std::uint64_t tail = words->tail;
  const std::uint64_t published = words->published;
  if (tail > published || published - tail > capacity_) return;
  // From the end of the records on to their beginning.
  for (const Range& range : RangesOf(published, tail + capacity_, capacity_)) {
    const std::size_t begin = UpToPages(range.begin);
    const std::size_t end = range.end / PageBytes() * PageBytes();
    if (begin >= end) continue;
    // Best effort: they are given back at the latest with the file.
    (void)syscalls_->PunchHole(file_->fd(),
                               static_cast<off_t>(header_bytes_ + begin),
                               static_cast<off_t>(end - begin));
  }
}

absl::StatusOr<std::unique_ptr<RingFile>> OpenRingFile(
    const std::string& path) {
  return RingFile::Open(path, SpoolUse::kTakeOver);
}

absl::StatusOr<std::vector<std::string>> FindRingFiles(
    const std::string& folder) {
  auto fd = OpenFolder(AT_FDCWD, folder, folder, RealSyscalls());
  if (!fd.ok()) return fd.status();
  auto names = NamesIn(*fd, folder, RealSyscalls(), [](std::string_view name) {
    return name.ends_with(kSuffix) &&
           IsNonceName(name.substr(0, name.size() - kSuffix.size()));
  });
  ::close(*fd);
  if (!names.ok()) return names.status();
  for (std::string& name : *names) name = absl::StrCat(folder, "/", name);
  return names;
}

}  // namespace gradtap::agent

#include "agent/spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

// Far above what Append() lets a segment become.
constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;

}  // namespace

absl::StatusOr<std::unique_ptr<Spool>> Spool::Create(const std::string& root,
                                                     SpoolIdentity identity,
                                                     SpoolOptions options,
                                                     Syscalls* syscalls) {
  auto folder = SpoolFolder::Create(root, identity.process_nonce, syscalls);
  if (!folder.ok()) return folder.status();
  std::unique_ptr<Spool> spool(new Spool(*std::move(folder)));
  spool->identity_ = std::move(identity);
  spool->options_ = options;
  return spool;
}

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(const std::string& path,
                                                   SpoolUse use,
                                                   Syscalls* syscalls) {
  const auto opening = Opening::Begin(path, use, syscalls);
  if (!opening.ok()) return opening.status();
  for (;;) {
    auto spool = (*opening)->Step();
    if (!spool.ok() || *spool != nullptr) return spool;
  }
}

Spool::~Spool() {
  (void)Close();
  if (!stays_) folder_->RemoveIfEmpty();
}

// ---- What is there ---------------------------------------------------------

absl::StatusOr<std::unique_ptr<Spool::Opening>> Spool::Opening::Begin(
    const std::string& path, SpoolUse use, Syscalls* syscalls) {
  auto folder = SpoolFolder::Open(path, use, syscalls);
  if (!folder.ok()) return folder.status();
  auto files = (*folder)->List();
  if (!files.ok()) return files.status();
  const auto schemas = (*folder)->ListSchemas();
  if (!schemas.ok()) return schemas.status();
  std::unique_ptr<Spool> spool(new Spool(*std::move(folder)));
  spool->stays_ = !schemas->empty();
  return std::unique_ptr<Opening>(
      new Opening(std::move(spool), *std::move(files)));
}

absl::StatusOr<std::unique_ptr<Spool>> Spool::Opening::Step() {
  if (next_ < files_.size()) {
    const auto taken = spool_->Take(files_[next_++], &readable_);
    if (!taken.ok()) return taken;
  }
  if (next_ < files_.size()) return nullptr;
  Spool& spool = *spool_;
  if (auto taken = spool.TakeSchemas(); !taken.ok()) return taken;
  if (!readable_ && !spool.schemas_.empty()) {
    // What it has is for the ring of its process.
    spool.segments_.clear();
    return std::move(spool_);
  }
  if (!readable_) {
    std::string why = absl::StrCat("'", EscapeForTerminal(spool.path()),
                                   "' has no record that can be read");
    problems_ = spool.TakeProblems();
    for (const std::string& problem : problems_) {
      absl::StrAppend(&why, "; ", problem);
    }
    spool.stays_ = false;
    spool_.reset();  // With its folder, if nothing is in it.
    return problems_.empty() ? absl::NotFoundError(why)
                             : absl::DataLossError(why);
  }
  spool.first_seq_ = spool.segments_.front().first_seq;
  for (const Segment& segment : spool.segments_) {
    spool.next_seq_ = std::max(spool.next_seq_, segment.next_seq);
    spool.bytes_ += segment.bytes;
  }
  return std::move(spool_);
}

const SpoolIdentity* Spool::Opening::identity() const {
  const bool known =
      spool_ != nullptr && !spool_->identity().process_nonce.empty();
  return known ? &spool_->identity() : nullptr;
}

absl::Status Spool::ReadSegment(const SpoolFolder::File& file, Segment* segment,
                                std::string* damage) {
  segment->name = file.name;
  segment->first_seq = segment->next_seq = file.first_seq;
  segment->aside = file.bad;
  const auto bytes = ReadFile(file.name);
  if (!bytes.ok()) {
    *damage = std::string(bytes.status().message());
    if (file.bad || absl::IsFailedPrecondition(bytes.status())) {
      return absl::OkStatus();
    }
    // That may pass, and is no reason to give its records up for lost.
    return absl::Status(
        bytes.status().code(),
        absl::StrCat(*damage,
                     "; nothing of the spool is delivered until it can be "
                     "read, or is moved elsewhere"));
  }
  segment->bytes = bytes->size();
  SegmentContent content = ParseSegment(*bytes, file.first_seq);
  *damage = content.damage;
  const std::uint64_t cut_off_seq = file.first_seq + content.records.size();
  if (content.cut_off && cut_off_seq >= ring_first_ &&
      cut_off_seq <= ring_last_) {
    damage->clear();
  }
  if (content.other_version && !file.bad) {
    return absl::UnimplementedError(absl::StrCat(
        "'", EscapeForTerminal(path()), "/", file.name, "': ", *damage));
  }
  if (!content.records.empty() && identity_.process_nonce.empty()) {
    identity_ = content.identity;
  } else if (!content.records.empty() &&
             content.identity.process_nonce != identity_.process_nonce) {
    *damage = "it is of another process than those before it";
    content.records.clear();
  }
  if (!segments_.empty() && segments_.back().next_seq > file.first_seq) {
    *damage = "it begins with records that stand in the one before it";
    content.records.clear();
  }
  segment->next_seq += content.records.size();
  for (const SegmentRecord& record : content.records) {
    NotePlace(record.meta, segment);
    steps_found_ += record.meta.recorded_steps;
  }
  return absl::OkStatus();
}

absl::Status Spool::Take(const SpoolFolder::File& file, bool* readable) {
  Segment segment;
  std::string damage;
  const absl::Status read = ReadSegment(file, &segment, &damage);
  if (!read.ok()) return read;
  segment.damaged = !damage.empty() || file.bad;
  const bool any = segment.next_seq > segment.first_seq;
  if (!any && !segment.damaged) {
    // Its process died before the first record was in it.
    if (folder_->use() == SpoolUse::kTakeOver) {
      folder_->syscalls()->UnlinkAt(folder_->fd(), file.name.c_str());
    }
    return absl::OkStatus();
  }
  if (!damage.empty() && !file.bad) {
    Report(absl::StrCat(
        file.name, ": ", damage, "; ", segment.next_seq - segment.first_seq,
        " records before that are used, the rest is ",
        folder_->use() == SpoolUse::kCopy
            ? std::string("left alone")
            : absl::StrCat("kept as ", SegmentName(file.first_seq, "bad"))));
    if (!any) SetAside(&segment);
  }
  // One that begins within the one before it has nothing that counts, and would
  // hide what that has from there on.
  if (!segments_.empty() && segments_.back().next_seq > file.first_seq) {
    return absl::OkStatus();
  }
  segments_.push_back(std::move(segment));
  *readable |= any;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Spool::ReadFile(const std::string& name) const {
  Syscalls* const sys = folder_->syscalls();
  const std::string path = absl::StrCat(folder_->path(), "/", name);
  const int fd =
      sys->OpenAt(folder_->fd(), name.c_str(), O_RDONLY | O_NONBLOCK, 0);
  if (fd == -ELOOP) {
    return absl::FailedPreconditionError("it is a symbolic link");
  }
  if (fd < 0) return FileError(path, "cannot be opened", -fd);
  struct stat about {};
  absl::Status status;
  if (::fstat(fd, &about) != 0) {
    status = FileError(path, "fstat", errno);
  } else if (!S_ISREG(about.st_mode) || about.st_size > kMaxFileBytes) {
    status = absl::FailedPreconditionError("it is no file that gradtap writes");
  } else if (folder_->use() == SpoolUse::kTakeOver &&
             (about.st_uid != ::geteuid() || (about.st_mode & 077) != 0)) {
    status = absl::FailedPreconditionError(
        "others own or may reach it; 0600 is expected");
  }
  std::string bytes;
  if (status.ok()) bytes.resize(static_cast<std::size_t>(about.st_size));
  std::size_t got = 0;
  while (status.ok() && got < bytes.size()) {
    const ssize_t n = sys->ReadAt(fd, bytes.data() + got, bytes.size() - got,
                                  static_cast<off_t>(got));
    if (n < 0) status = FileError(path, "cannot be read", static_cast<int>(-n));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  ::close(fd);
  if (!status.ok()) return status;
  bytes.resize(got);
  return bytes;
}

void Spool::NotePlace(const EntryMeta& meta, Segment* segment) {
  if (!segment->first) segment->first = FirstPlace(meta);
  if (segment->first && segment->first->parts == 0 &&
      meta.kind == EntryKind::kStep) {
    segment->first->parts = meta.part_count;
  }
  if (const auto last = LastPlace(meta)) segment->last = last;
}

// ---- Writing ---------------------------------------------------------------

absl::Status Spool::OpenSegment(std::uint64_t seq) {
  Syscalls* const sys = folder_->syscalls();
  const std::string unfinished = SegmentName(seq, "tmp");
  const std::string name = SegmentName(seq, "seg");
  const std::string path = absl::StrCat(folder_->path(), "/", name);
  std::string header = EncodeSegmentHeader(identity_);
  // Of an attempt that failed.
  sys->UnlinkAt(folder_->fd(), unfinished.c_str());
  const int fd = sys->OpenAt(folder_->fd(), unfinished.c_str(),
                             O_RDWR | O_CREAT | O_EXCL | O_APPEND, 0600);
  if (fd < 0) return FileError(path, "cannot be made", -fd);
  const iovec piece{header.data(), header.size()};
  const ssize_t wrote = sys->Write(fd, &piece, 1);
  int error = wrote < 0 ? static_cast<int>(-wrote) : 0;
  if (error == 0 && static_cast<std::size_t>(wrote) != header.size()) {
    error = ENOSPC;
  }
  if (error == 0) {
    error = -sys->RenameAt(folder_->fd(), unfinished.c_str(), name.c_str());
  }
  if (error != 0) {
    ::close(fd);
    sys->UnlinkAt(folder_->fd(), unfinished.c_str());
    return FileError(path, "cannot be written", error);
  }
  if (const int synced = sys->SyncFolder(folder_->fd()); synced < 0) {
    sync_error_ = FileError(folder_->path(), "fsync", -synced);
    Report(std::string(sync_error_.message()));
  }
  if (segments_.empty()) first_seq_ = next_seq_ = seq;
  Segment segment;
  segment.name = name;
  segment.first_seq = segment.next_seq = seq;
  segment.bytes = header.size();
  bytes_ += header.size();
  segments_.push_back(std::move(segment));
  open_fd_ = fd;
  return absl::OkStatus();
}

absl::Status Spool::Append(std::uint64_t seq, const EntryMeta& meta,
                           std::string_view bytes) {
  const bool first = first_seq_ == next_seq_;
  if (bytes.size() > kMaxRecordBytes || (!first && seq != next_seq_)) {
    return absl::InternalError(absl::StrCat(
        "record ", seq, " of ", bytes.size(), " bytes, after ", next_seq_ - 1));
  }
  std::string head = EncodeRecordHead(seq, meta, bytes);
  const std::uint64_t size = head.size() + bytes.size();
  const bool opens = open_fd_ < 0 || seq != segments_.back().next_seq;
  const std::uint64_t more =
      opens ? size + EncodeSegmentHeader(identity_).size() : size;
  if (bytes_ + more > options_.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the spool '", EscapeForTerminal(path()), "' is full, at ",
                     options_.max_bytes, " bytes"));
  }
  // A loss between the last record and this one: not in the same segment.
  if (open_fd_ >= 0 && seq != segments_.back().next_seq) {
    (void)CloseSegment();
  }
  if (open_fd_ < 0) {
    if (auto opened = OpenSegment(seq); !opened.ok()) return opened;
    if (first) first_seq_ = next_seq_ = seq;
  }
  Segment& segment = segments_.back();
  std::size_t written = 0;
  while (written < size) {
    iovec pieces[2];
    int count = 0;
    if (written < head.size()) {
      pieces[count++] = {head.data() + written, head.size() - written};
    }
    const std::size_t skip = written - std::min(written, head.size());
    pieces[count++] = {const_cast<char*>(bytes.data()) + skip,
                       bytes.size() - skip};
    const ssize_t n = folder_->syscalls()->Write(open_fd_, pieces, count);
    if (n <= 0) {
      const int error = n < 0 ? static_cast<int>(-n) : ENOSPC;
      const auto good = static_cast<off_t>(segment.bytes);
      const std::string file = absl::StrCat(path(), "/", segment.name);
      if (written > 0 && folder_->syscalls()->Truncate(open_fd_, good) < 0) {
        AbandonSegment("a record was written in part and cannot be taken back");
      }
      return FileError(file, "cannot be written", error);
    }
    written += static_cast<std::size_t>(n);
  }
  segment.bytes += size;
  bytes_ += size;
  segment.next_seq = next_seq_ = seq + 1;
  NotePlace(meta, &segment);
  if (segment.bytes >= options_.segment_bytes) (void)CloseSegment();
  return absl::OkStatus();
}

void Spool::AbandonSegment(std::string_view why) {
  Segment& segment = segments_.back();
  segment.damaged = true;
  Report(absl::StrCat(segment.name, ": ", std::string(why)));
  ::close(std::exchange(open_fd_, -1));
  if (segment.next_seq > segment.first_seq) return;
  // No record is lost with it, and the next one has its name.
  folder_->syscalls()->UnlinkAt(folder_->fd(), segment.name.c_str());
  bytes_ -= segment.bytes;
  segments_.pop_back();
}

absl::Status Spool::CloseSegment() {
  if (open_fd_ < 0) return absl::OkStatus();
  const int synced = folder_->syscalls()->SyncData(open_fd_);
  ::close(std::exchange(open_fd_, -1));
  if (synced >= 0) return absl::OkStatus();
  sync_error_ = FileError(absl::StrCat(path(), "/", segments_.back().name),
                          "fdatasync", -synced);
  Report(std::string(sync_error_.message()));
  return sync_error_;
}

absl::Status Spool::Close() {
  (void)CloseSegment();
  return sync_error_;
}

// ---- Freeing ---------------------------------------------------------------

void Spool::SetAside(Segment* segment) {
  if (folder_->use() == SpoolUse::kCopy || segment->aside) return;
  const std::string bad = SegmentName(segment->first_seq, "bad");
  // Of its name there may be one already, which stays.
  if (::faccessat(folder_->fd(), bad.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    Report(
        absl::StrCat(segment->name, " stays, as there is ", bad, " already"));
    return;
  }
  const int renamed = folder_->syscalls()->RenameAt(
      folder_->fd(), segment->name.c_str(), bad.c_str());
  if (renamed < 0) {
    Report(absl::StrCat(segment->name, " cannot be renamed to ", bad));
    return;
  }
  segment->name = bad;
  segment->aside = true;
}

void Spool::FreeBefore(std::uint64_t next_seq) {
  first_seq_ = std::clamp(next_seq, first_seq_, next_seq_);
  std::size_t freed = 0;
  for (; freed < segments_.size(); ++freed) {
    Segment& segment = segments_[freed];
    const bool last = freed + 1 == segments_.size();
    if (segment.next_seq > first_seq_) break;
    // The hole behind it still needs it. One without a record is part of that.
    std::size_t after = freed + 1;
    while (after < segments_.size() &&
           segments_[after].next_seq == segments_[after].first_seq) {
      ++after;
    }
    if (after < segments_.size() && segments_[after].first_seq > first_seq_) {
      break;
    }
    // One that is being written goes on.
    if (last && open_fd_ >= 0 && segment.next_seq == segment.first_seq) break;
    if (folder_->use() == SpoolUse::kCopy) continue;
    if (last && open_fd_ >= 0) (void)CloseSegment();
    if (segment.damaged) {
      SetAside(&segment);  // Its bytes stay on disk, and in the count.
      continue;
    }
    const int gone =
        folder_->syscalls()->UnlinkAt(folder_->fd(), segment.name.c_str());
    if (gone < 0) {
      Report(std::string(FileError(absl::StrCat(path(), "/", segment.name),
                                   "cannot be deleted, though it is delivered",
                                   -gone)
                             .message()));
      continue;
    }
    bytes_ -= segment.bytes;
  }
  segments_.erase(segments_.begin(),
                  segments_.begin() + static_cast<std::ptrdiff_t>(freed));
  FreeSchemas(next_seq);
}

void Spool::Report(std::string problem) {
  constexpr std::size_t kMaxProblems = 64;
  if (problems_.size() < kMaxProblems) problems_.push_back(std::move(problem));
}

std::vector<std::string> Spool::TakeProblems() {
  return std::exchange(problems_, {});
}

}  // namespace gradtap::agent

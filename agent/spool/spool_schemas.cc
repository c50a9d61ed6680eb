// The schemas that a spool keeps beside its records.

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/spool/spool.h"

namespace gradtap::agent {
namespace {

// Of a model that changes all the time: each costs a sync.
constexpr std::size_t kMaxSchemas = 64;

}  // namespace

const KeptSchema* Spool::Kept(std::uint64_t seq) const {
  for (const Schema& kept : schemas_) {
    if (kept.schema.Has(seq)) return &kept.schema;
  }
  return nullptr;
}

const KeptSchema* Spool::SchemaBefore(std::uint64_t seq) const {
  const KeptSchema* found = nullptr;
  for (const Schema& kept : schemas_) {
    if (!kept.schema.records.empty() && kept.schema.first_seq < seq) {
      found = &kept.schema;
    }
  }
  return found;
}

absl::Status Spool::TakeSchemas() {
  const auto files = folder_->ListSchemas();
  if (!files.ok()) return files.status();
  for (const SpoolFolder::File& file : *files) {
    const auto bytes = ReadFile(file.name);
    std::string damage;
    SpoolIdentity identity;
    Schema kept;
    if (bytes.ok()) {
      kept.schema = ParseKeptSchema(*bytes, file.first_seq, &identity, &damage);
      kept.bytes = bytes->size();
    } else if (absl::IsFailedPrecondition(bytes.status())) {
      damage = std::string(bytes.status().message());
    } else {
      // That may pass: the steps that refer to it are not to be given up.
      return absl::Status(
          bytes.status().code(),
          absl::StrCat(bytes.status().message(),
                       "; nothing of the spool is delivered until it can be "
                       "read, or is moved elsewhere"));
    }
    if (damage.empty() && identity_.process_nonce.empty()) identity_ = identity;
    if (damage.empty() && identity.process_nonce != identity_.process_nonce) {
      damage = "it is of another process";
    }
    if (damage.empty()) {
      schemas_.push_back(std::move(kept));
    } else {
      Report(absl::StrCat(file.name, ": ", damage, "; it is not used"));
    }
  }
  return absl::OkStatus();
}

void Spool::KeepSchema(const KeptSchema& schema) {
  if (schemas_.size() >= kMaxSchemas) return;
  std::uint64_t room = options_.max_bytes / 8;
  for (const Schema& kept : schemas_) {
    if (kept.schema.first_seq >= schema.first_seq) return;
    room -= std::min(room, kept.bytes);
  }
  const std::string bytes = EncodeKeptSchema(identity_, schema);
  if (bytes.size() > room || !WriteSchema(bytes, schema.first_seq).ok()) return;
  Schema kept;
  kept.schema.first_seq = schema.first_seq;
  kept.bytes = bytes.size();
  schemas_.push_back(std::move(kept));
}

absl::Status Spool::WriteSchema(const std::string& bytes, std::uint64_t seq) {
  Syscalls* const sys = folder_->syscalls();
  const std::string unfinished = SegmentName(seq, "tmp");
  const std::string name = SegmentName(seq, "schema");
  sys->UnlinkAt(folder_->fd(), unfinished.c_str());
  const int fd = sys->OpenAt(folder_->fd(), unfinished.c_str(),
                             O_RDWR | O_CREAT | O_EXCL | O_APPEND, 0600);
  if (fd < 0) return FileError(name, "cannot be made", -fd);
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  const ssize_t wrote = sys->Write(fd, &piece, 1);
  int error = wrote < 0 ? static_cast<int>(-wrote) : 0;
  if (error == 0 && static_cast<std::size_t>(wrote) != bytes.size()) {
    error = ENOSPC;
  }
  if (error == 0) error = -std::min(sys->SyncData(fd), 0);
  ::close(fd);
  if (error == 0) {
    error = -sys->RenameAt(folder_->fd(), unfinished.c_str(), name.c_str());
  }
  if (error == 0) return absl::OkStatus();
  sys->UnlinkAt(folder_->fd(), unfinished.c_str());
  return FileError(name, "cannot be written", error);
}

// The newest before `next_seq` stays, and those behind it: what is still in the
// ring, or to come, refers to them.
void Spool::FreeSchemas(std::uint64_t next_seq) {
  if (folder_->use() == SpoolUse::kCopy) return;
  while (schemas_.size() > 1 && schemas_[1].schema.first_seq <= next_seq) {
    const std::string name =
        SegmentName(schemas_.front().schema.first_seq, "schema");
    folder_->syscalls()->UnlinkAt(folder_->fd(), name.c_str());
    schemas_.erase(schemas_.begin());
  }
}

}  // namespace gradtap::agent

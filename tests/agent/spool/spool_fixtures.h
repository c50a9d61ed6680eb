// Small things that the spool's tests share.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_SPOOL_SPOOL_FIXTURES_H_
#define GRADTAP_TESTS_AGENT_SPOOL_SPOOL_FIXTURES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "agent/spool/segment.h"
#include "agent/spool/syscalls.h"
#include "core/hash.h"

namespace gradtap::testing {

inline agent::SpoolIdentity MakeIdentity() {
  agent::SpoolIdentity identity;
  identity.run = "run";
  identity.launch = "launch 7";
  identity.process_nonce = "0123456789abcdef";
  identity.agent_version = "1.2.3";
  identity.torch_version = "9.9";
  identity.host = "host";
  identity.collector = "peer:1";
  identity.rank = 3;
  identity.world_size = 8;
  identity.start_time_unix_ns = 1'700'000'000'000'000'000;
  identity.pid = 4242;
  identity.tags = {{"team", "vision"}, {"empty", ""}};
  return identity;
}

inline agent::EntryMeta StepMeta(std::int64_t step, std::uint32_t branch = 0) {
  agent::EntryMeta meta;
  meta.kind = agent::EntryKind::kStep;
  meta.recorded_steps = 1;
  meta.branch = branch;
  meta.step = step;
  return meta;
}

inline std::string Payload(std::uint64_t seq) {
  return "record " + std::to_string(seq) + std::string(seq % 50, 'x');
}

// A segment, by a program that writes another version of the format.
inline std::string OfVersion(std::uint32_t version, std::string segment) {
  std::uint32_t identity = 0;
  std::memcpy(segment.data() + 8, &version, sizeof(version));
  std::memcpy(&identity, segment.data() + 12, sizeof(identity));
  const std::size_t hashed = 16 + identity;
  const std::uint64_t hash =
      StableHash64(std::string_view(segment).substr(0, hashed));
  std::memcpy(segment.data() + hashed, &hash, sizeof(hash));
  return segment;
}

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
inline void WriteAll(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Names in a folder, sorted.
inline std::vector<std::string> NamesIn(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A disk that fails as it is told, and whose syncs cost nothing.
class FaultyDisk : public agent::Syscalls {
 public:
  // Bytes that may still be written; then errors. A write that crosses the
  // limit is cut short.
  std::int64_t room = std::int64_t{1} << 60;
  int write_error = 28;  // ENOSPC.
  int truncate_error = 0;
  int sync_error = 0;
  std::atomic<int> read_error = 0;
  std::int64_t type = 0xef53;  // ext4.
  int data_syncs = 0;
  int folder_syncs = 0;

  ssize_t Write(int fd, const iovec* pieces, int count) override {
    if (room <= 0) return -write_error;
    std::vector<iovec> cut(pieces, pieces + count);
    std::int64_t left = room;
    for (iovec& piece : cut) {
      piece.iov_len = static_cast<std::size_t>(std::min<std::int64_t>(
          left, static_cast<std::int64_t>(piece.iov_len)));
      left -= static_cast<std::int64_t>(piece.iov_len);
    }
    const ssize_t wrote = Syscalls::Write(fd, cut.data(), count);
    if (wrote > 0) room -= wrote;
    return wrote;
  }
  ssize_t ReadAt(int fd, char* out, std::size_t bytes, off_t at) override {
    return read_error != 0 ? -read_error : Syscalls::ReadAt(fd, out, bytes, at);
  }
  int Truncate(int fd, off_t bytes) override {
    return truncate_error != 0 ? -truncate_error
                               : Syscalls::Truncate(fd, bytes);
  }
  int SyncData(int) override {
    ++data_syncs;
    return -sync_error;
  }
  int SyncFolder(int) override {
    ++folder_syncs;
    return 0;
  }
  std::int64_t FileSystemType(int) override { return type; }
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_SPOOL_SPOOL_FIXTURES_H_

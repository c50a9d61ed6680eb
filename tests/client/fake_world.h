// A host and a collector on which all is well, until a test says otherwise.

#ifndef GRADTAP_TESTS_CLIENT_FAKE_WORLD_H_
#define GRADTAP_TESTS_CLIENT_FAKE_WORLD_H_

#include <map>
#include <string>
#include <vector>

#include "client/cli/doctor.h"
#include "client/cli/doctor_world.h"

namespace gradtap::client::testing {

inline constexpr std::int64_t kFakeNow = 1'800'000'000'000'000'000;
inline constexpr std::int64_t kTmpfsType = 0x01021994;
inline constexpr std::int64_t kExt4Type = 0xef53;

inline FolderFacts GoodFolder(std::int64_t file_system,
                              std::uint32_t mode = 0700) {
  FolderFacts facts;
  facts.kind = FolderFacts::Kind::kFolder;
  facts.mode = mode;
  facts.ours = true;
  facts.writable = true;
  facts.file_system = file_system;
  facts.free_bytes = std::uint64_t{100} << 30;
  return facts;
}

class FakeWorld : public World {
 public:
  FakeWorld() {
    env["HOME"] = "/home/ann";
    env["GRADTAP_RING_FOLDER"] = "/dev/shm/ann";
    folders["/dev/shm/ann"] = GoodFolder(kTmpfsType);
    folders["/dev/shm"] = GoodFolder(kTmpfsType, 01777);
    folders["/home/ann/.local/state/gradtap/spool"] = GoodFolder(kExt4Type);
    folders["/home/ann"] = GoodFolder(kExt4Type);
    resolution.addresses = {"127.0.0.1"};
    resolution.took_ns = 1'000'000;
    certificate.subject = "CN=gpu7";
    certificate.issuer = "CN=house authority";
    certificate.names = {"gpu7", "192.0.2.7"};
    certificate.not_before_unix_s = kFakeNow / 1'000'000'000 - 1000;
    certificate.not_after_unix_s = kFakeNow / 1'000'000'000 + 365 * 86400;
    answer.version = GRADTAP_VERSION;
    answer.time_unix_ns = kFakeNow + 1;
    answer.asked_unix_ns = kFakeNow;
    answer.answered_unix_ns = kFakeNow + 2'000'000;
  }

  std::map<std::string, std::string> env;
  Resolution resolution;
  // Of addresses; others take connections.
  std::map<std::string, absl::Status> refused;
  PeerCertificate certificate;
  CollectorAnswer answer;
  std::map<std::string, FolderFacts> folders;  // Others are missing.
  std::vector<LeftoverFacts> left;
  std::map<std::string, absl::Status> bad_pem;
  std::vector<std::string> libraries;

  // What was asked for.
  std::vector<std::string> dialled;
  std::vector<ChannelOptions> asked;
  std::vector<std::string> runs;

  std::vector<std::string> VariableNames() override {
    std::vector<std::string> names;
    for (const auto& [name, value] : env) names.push_back(name);
    return names;
  }
  std::optional<std::string> Variable(const std::string& name) override {
    const auto it = env.find(name);
    return it == env.end() ? std::nullopt
                           : std::optional<std::string>(it->second);
  }
  std::int64_t UnixNanos() override { return kFakeNow; }
  Resolution Resolve(const std::string&, const std::string&) override {
    return resolution;
  }
  absl::Status Connect(const std::string& address,
                       std::chrono::milliseconds) override {
    dialled.push_back(address);
    const auto it = refused.find(address);
    return it == refused.end() ? absl::OkStatus() : it->second;
  }
  PeerCertificate LookAtCertificate(const std::string&, const std::string&,
                                    const ChannelOptions&) override {
    return certificate;
  }
  CollectorAnswer Ask(const ChannelOptions& options,
                      const std::string& run) override {
    asked.push_back(options);
    runs.push_back(run);
    return answer;
  }
  FolderFacts Folder(const std::string& path, Links links) override {
    const auto it = folders.find(path);
    if (it == folders.end()) return {};
    FolderFacts facts = it->second;
    if (facts.kind == FolderFacts::Kind::kLink && links == Links::kFollow) {
      facts.kind = FolderFacts::Kind::kFolder;
    }
    return facts;
  }
  std::vector<LeftoverFacts> Leftovers(const std::string&,
                                       const std::string&) override {
    return left;
  }
  absl::Status CheckPem(const std::string& path) override {
    const auto it = bad_pem.find(path);
    return it == bad_pem.end() ? absl::OkStatus() : it->second;
  }
  std::vector<std::string> AgentLibraries() override { return libraries; }
};

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_FAKE_WORLD_H_

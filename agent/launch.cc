#include "agent/launch.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <system_error>

#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::size_t kMaxLaunchBytes = 128;

std::string Get(const Environment& environment, const char* name) {
  const char* value = environment(name);
  return value == nullptr ? "" : value;
}

// FNV-1a: the ranks of a job, on other machines too, must agree.
std::uint64_t Hash(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return hash;
}

std::string Capped(const std::string& text) {
  const std::string safe = SafeName(text);
  if (safe.size() <= kMaxLaunchBytes) return safe;
  char hash[18];
  std::snprintf(hash, sizeof(hash), "~%016llx",
                static_cast<unsigned long long>(Hash(text)));
  std::size_t keep = kMaxLaunchBytes - 17;
  while (keep > 0 && (static_cast<unsigned char>(safe[keep]) & 0xC0) == 0x80) {
    --keep;
  }
  return safe.substr(0, keep) + hash;
}

bool ParseInt(const std::string& text, int* value) {
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && at == end && *value >= 0;
}

struct Launcher {
  const char* rank;
  const char* world_size;
};
constexpr std::array<Launcher, 4> kLaunchers = {{
    {"RANK", "WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"SLURM_PROCID", "SLURM_NTASKS"},
}};

// torchrun says "none" when nobody gave the job an id: that names no job.
std::string TorchElasticId(const Environment& environment) {
  const std::string id = Get(environment, "TORCHELASTIC_RUN_ID");
  return id == "none" ? "" : id;
}

}  // namespace

Place PlaceInJob(const Environment& environment,
                 std::vector<std::string>* problems) {
  Place place;
  const auto read = [&](const char* name, int* value) {
    const std::string text = Get(environment, name);
    if (text.empty()) return false;
    if (ParseInt(text, value)) return true;
    *value = -1;
    problems->push_back(std::string(name) + "='" + text +
                        "' is not a number of 0 or more: ignored");
    return false;
  };
  for (const Launcher& launcher : kLaunchers) {
    if (!read(launcher.rank, &place.rank)) continue;
    read(launcher.world_size, &place.world_size);
    return place;
  }
  return place;
}

std::string LaunchKey(const Environment& environment) {
  const std::string own = Get(environment, "GRADTAP_LAUNCH");
  if (!own.empty()) return Capped(own);
  const auto restarts = [&](const char* name) {
    const std::string count = Get(environment, name);
    return ":" + (count.empty() ? "0" : count);
  };
  const std::string elastic = TorchElasticId(environment);
  if (!elastic.empty()) {
    return Capped("torchelastic:" + elastic +
                  restarts("TORCHELASTIC_RESTART_COUNT"));
  }
  const std::string slurm = Get(environment, "SLURM_JOB_ID");
  if (!slurm.empty()) {
    const std::string step = Get(environment, "SLURM_STEP_ID");
    return Capped("slurm:" + slurm + (step.empty() ? "" : "." + step) +
                  restarts("SLURM_RESTART_COUNT"));
  }
  for (const char* name : {"PMIX_NAMESPACE", "PBS_JOBID", "LSB_JOBID"}) {
    const std::string id = Get(environment, name);
    if (!id.empty()) return Capped(std::string(name) + ":" + id);
  }
  return "";
}

std::string JobRunName(const Environment& environment) {
  const std::string elastic = TorchElasticId(environment);
  if (!elastic.empty()) return ToRunName(elastic);
  for (const char* name : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"}) {
    const std::string id = Get(environment, name);
    if (!id.empty()) return ToRunName(id);
  }
  return "";
}

std::string ToRunName(const std::string& text) {
  constexpr std::size_t kMaxRunBytes = 128;
  std::string name;
  for (const char c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                      c == '-';
    name += fine ? c : '_';
    if (name.size() == kMaxRunBytes) break;
  }
  return name == "." || name == ".." ? "_" : name;
}

}  // namespace gradtap::agent

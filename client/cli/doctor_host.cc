// The doctor's checks of this host: shared memory, the spool, what ended
// processes have left there, the agent's library.
//
// Layer: client/cli.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"
#include "agent/delivery/leftover.h"
#include "agent/spool/folder.h"
#include "client/cli/doctor_report.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

namespace fs = std::filesystem;
using Kind = FolderFacts::Kind;

constexpr char kMemory[] = "shared memory";
constexpr char kSpool[] = "spool";
constexpr char kLeftovers[] = "leftovers";
constexpr char kAgent[] = "agent";
constexpr std::uint64_t kDefaultRing = std::uint64_t{64} << 20;
constexpr std::int64_t kTmpfs = 0x01021994;
constexpr std::int64_t kRamfs = 0x858458f6;
constexpr char kInMemory[] =
    ": rings are plain memory, and what is in one goes with a process that is "
    "killed";

std::string Octal(std::uint32_t mode) {
  char text[16];
  std::snprintf(text, sizeof(text), "%04o", mode & 07777u);
  return text;
}

// A folder, or the nearest above it that there is.
struct Nearby {
  std::string path;
  FolderFacts facts;
};
Nearby FindNearby(World* world, const std::string& path) {
  Nearby near{path, world->Folder(path, World::Links::kShow)};
  while (near.facts.kind == Kind::kMissing) {
    const std::string above = fs::path(near.path).parent_path().string();
    if (above.empty() || above == near.path) break;
    near = {above, world->Folder(above, World::Links::kFollow)};
  }
  return near;
}

// Of its folder, or, where that is to be made, of the one that it will be in.
struct RingPlace {
  std::string shown;
  bool missing = false;
  FolderFacts facts;
};

// False: no ring can be there, and why has been reported.
bool CanHoldRings(const RingPlace& place, Report* report) {
  const FolderFacts& facts = place.facts;
  if (facts.kind == Kind::kLink || facts.kind == Kind::kOther) {
    report->Problem(kMemory,
                    absl::StrCat(place.shown, " is no folder", kInMemory),
                    "look at what it is, and remove it");
    return false;
  }
  if (facts.kind != Kind::kFolder || !facts.writable) {
    report->Note(
        kMemory,
        absl::StrCat(place.shown,
                     facts.kind == Kind::kMissing   ? " does not exist"
                     : facts.kind == Kind::kUnknown ? ": " + facts.error
                                                    : " cannot be written",
                     kInMemory),
        "mount a tmpfs at /dev/shm, or name another folder in memory with "
        "GRADTAP_RING_FOLDER");
    return false;
  }
  if (place.missing) return true;
  if (!facts.ours) {
    report->Problem(kMemory,
                    absl::StrCat(place.shown, " is of another user", kInMemory),
                    "look at who made it; GRADTAP_RING_FOLDER names another");
    return false;
  }
  if ((facts.mode & 077) != 0) {
    report->Problem(
        kMemory,
        absl::StrCat(place.shown, " has mode ", Octal(facts.mode),
                     ", so that others may reach it", kInMemory),
        absl::StrCat("look at what is in it, then chmod 0700 ", place.shown));
    return false;
  }
  return true;
}

void CheckRoom(const RingPlace& place, std::uint64_t ring_bytes,
               Report* report) {
  const FolderFacts& facts = place.facts;
  const std::uint64_t need = ring_bytes == 0 ? kDefaultRing : ring_bytes;
  const std::string room = HumanBytes(facts.free_bytes);
  if (facts.file_system != kTmpfs && facts.file_system != kRamfs) {
    report->Note(kMemory,
                 absl::StrCat(place.shown,
                              " is not in memory (tmpfs): a ring on a disk can "
                              "stall training for milliseconds"),
                 "GRADTAP_RING_FOLDER in /dev/shm");
  } else if (need > facts.free_bytes / 2) {
    report->Note(kMemory,
                 absl::StrCat(place.shown, " has ", room,
                              " free, and a ring, of ", HumanBytes(need),
                              ", takes at most half of that", kInMemory),
                 "more shared memory (containers: --shm-size=1g), or a smaller "
                 "GRADTAP_RING_BYTES");
  } else {
    report->Ok(kMemory,
               absl::StrCat(place.shown,
                            place.missing ? ", where agents make their folder, "
                                            "is "
                                          : " is private, ",
                            "in memory, ", room, " free"));
  }
}

void CheckSharedMemory(World* world, const agent::Settings& settings,
                       Report* report) {
  const std::string& folder = settings.ring_folder;
  if (folder.empty()) {
    report->Note(kMemory, absl::StrCat("GRADTAP_RING_FOLDER=off", kInMemory),
                 "unset GRADTAP_RING_FOLDER");
    return;
  }
  if (folder[0] != '/') {
    report->Note(kMemory,
                 absl::StrCat("the folder ", Quoted(folder),
                              " is no absolute path", kInMemory),
                 "GRADTAP_RING_FOLDER=/dev/shm/NAME, or unset it");
    return;
  }
  RingPlace place{Quoted(folder), false,
                  world->Folder(folder, World::Links::kShow)};
  if (place.facts.kind == Kind::kMissing) {
    const std::string parent = fs::path(folder).parent_path().string();
    place = {Quoted(parent), true,
             world->Folder(parent, World::Links::kFollow)};
  }
  if (CanHoldRings(place, report)) {
    CheckRoom(place, settings.options.ring_bytes, report);
  }
}

// Why no spool can be in `near`; empty: it can.
std::string SpoolRefused(const Nearby& near) {
  switch (near.facts.kind) {
    case Kind::kMissing:
      return "does not exist";
    case Kind::kUnknown:
      return near.facts.error;
    case Kind::kLink:
      return "is a symbolic link, which agents do not follow";
    case Kind::kOther:
      return "is no folder";
    case Kind::kFolder:
      break;
  }
  if (!near.facts.writable) return "cannot be written by this user";
  const absl::Status local =
      agent::CheckLocalFileSystem(near.facts.file_system);
  return local.ok() ? "" : std::string(local.message());
}

void CheckSpool(World* world, const AgentOptions& o, Report* report) {
  constexpr char kLost[] =
      "what the ring cannot hold while the collector is away is lost";
  if (o.spool == "off") {
    report->Note(kSpool, absl::StrCat("GRADTAP_SPOOL=off: ", kLost),
                 "unset GRADTAP_SPOOL, or name a folder on a local disk");
    return;
  }
  if (o.spool.empty()) {
    report->Problem(
        kSpool,
        absl::StrCat("there is no folder for it, since neither XDG_STATE_HOME "
                     "nor HOME is set: ",
                     kLost),
        "GRADTAP_SPOOL=FOLDER on a local disk");
    return;
  }
  const Nearby near = FindNearby(world, o.spool);
  const std::string shown =
      near.path == o.spool
          ? Quoted(o.spool)
          : absl::StrCat(Quoted(o.spool), " will be made, and ",
                         Quoted(near.path));
  if (const std::string refused = SpoolRefused(near); !refused.empty()) {
    report->Problem(kSpool, absl::StrCat(shown, " ", refused, "; ", kLost),
                    "GRADTAP_SPOOL=FOLDER on a local disk, of this user");
    return;
  }
  const std::string room = HumanBytes(near.facts.free_bytes);
  const bool shared = (near.facts.mode & 022) != 0;
  if (near.facts.free_bytes < o.spool_bytes) {
    report->Note(kSpool,
                 absl::StrCat(shown, " has ", room, " free, and a process may ",
                              "have ", HumanBytes(o.spool_bytes), " there"),
                 "make room, or a smaller GRADTAP_SPOOL_BYTES");
  } else if (shared && (near.facts.mode & 01000) == 0) {
    report->Note(kSpool,
                 absl::StrCat(shown, " has mode ", Octal(near.facts.mode),
                              ": others may remove what is there"),
                 absl::StrCat("chmod go-w ", Quoted(near.path)));
  } else {
    report->Ok(kSpool, absl::StrCat(shown, " can be written, ", room, " free"));
  }
}

void CheckLeftovers(World* world, const agent::Settings& settings,
                    Report* report) {
  const std::string& spool = settings.options.spool;
  struct Sum {
    std::size_t processes = 0;
    std::uint64_t steps = 0;
    bool counted = true;
  };
  std::map<std::string, Sum> waiting;  // By collector.
  std::size_t running = 0;
  std::size_t troubles = 0;
  for (const LeftoverFacts& left :
       world->Leftovers(spool == "off" ? "" : spool, settings.ring_folder)) {
    switch (left.state) {
      case LeftoverFacts::State::kRunning:
        ++running;
        break;
      case LeftoverFacts::State::kWaiting: {
        Sum& sum = waiting[left.collector];
        ++sum.processes;
        sum.steps += left.steps.value_or(0);
        sum.counted = sum.counted && left.steps.has_value();
        break;
      }
      case LeftoverFacts::State::kSetAside:
      case LeftoverFacts::State::kUnreadable:
        if (++troubles > 5) break;
        report->Note(kLeftovers,
                     absl::StrCat(Quoted(left.path), ": ",
                                  left.why.empty()
                                      ? "delivered, but for what cannot be read"
                                      : left.why),
                     "look at it, or delete it");
    }
  }
  for (const auto& [collector, sum] : waiting) {
    const std::string steps =
        sum.counted ? Plural(sum.steps, "step")
        : sum.steps == 0
            ? "steps, more than are soon counted,"
            : absl::StrCat("more than ", Plural(sum.steps, "step"));
    report->Note(
        kLeftovers,
        absl::StrCat(
            HumanCount(sum.processes),
            sum.processes == 1 ? " ended process has left "
                               : " ended processes have left ",
            steps,
            collector.empty() ? "" : absl::StrCat(" for ", Quoted(collector))),
        absl::StrCat("the next agent here delivers it, or `",
                     collector.empty() ? "gradtap drain"
                                       : agent::DrainCommand(collector),
                     "`"));
  }
  if (waiting.empty() && troubles == 0) {
    report->Ok(kLeftovers, absl::StrCat("none of ended processes; ", running,
                                        running == 1 ? " runs" : " run"));
  }
}

// "0.1.0" of "libgradtap_agent.so.0.1.0"; empty: its name does not say.
std::string VersionOf(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  const std::size_t at = name.find(".so.");
  return at == std::string::npos ? "" : name.substr(at + 4);
}

void CheckLibrary(World* world, Report* report) {
  const std::vector<std::string> libraries = world->AgentLibraries();
  if (libraries.empty()) {
    report->Ok(kAgent, absl::StrCat("no library beside this program (gradtap ",
                                    GRADTAP_VERSION,
                                    "): training programs bring their own"));
  }
  for (const std::string& path : libraries) {
    const std::string version = VersionOf(path);
    if (version.empty() || version == GRADTAP_VERSION) {
      report->Ok(kAgent, absl::StrCat(Quoted(path), version.empty()
                                                        ? ", version not known"
                                                        : ", as this program"));
    } else {
      report->Note(kAgent,
                   absl::StrCat(Quoted(path), " is version ", Quoted(version),
                                ", and this program is ", GRADTAP_VERSION),
                   "install both from one release");
    }
  }
}

}  // namespace

void CheckHost(World* world, const DoctorPlan& plan, Report* report) {
  CheckSharedMemory(world, plan.settings, report);
  CheckSpool(world, plan.settings.options, report);
  CheckLeftovers(world, plan.settings, report);
  CheckLibrary(world, report);
}

}  // namespace gradtap::client

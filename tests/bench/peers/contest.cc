#include "bench/peers/contest.h"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>
#include <utility>

#include "bench/peers/check.h"

namespace gradtap::bench {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double OwnCpu() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  double seconds = 0;
  for (const timeval& t : {usage.ru_utime, usage.ru_stime}) {
    seconds +=
        static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  }
  return seconds;
}

void Say(const std::string& line) {
  static const Clock::time_point start = Clock::now();
  char time[32];
  std::snprintf(time, sizeof time, "%7.1f s  ", SecondsSince(start));
  std::cerr << "peers: " << time << line << "\n";
}

std::string Machine() {
  std::string processor = "?";
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line);) {
    if (line.rfind("model name", 0) == 0) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  }
  utsname system{};
  ::uname(&system);
  std::string load;
  std::getline(std::ifstream("/proc/loadavg"), load);
  return std::to_string(std::thread::hardware_concurrency()) + " x " +
         processor + ", Linux " + system.release + ", load " +
         load.substr(0, load.find(' '));
}

// Whether gradtap's heat map has columns of any number of steps, or of
// multiples of 64 (proto/gradtap/v1/heat_map.proto), which all peers then are
// asked for.
bool HasNarrowColumns(const Shape& shape, std::size_t buckets) {
  const auto steps = static_cast<std::uint64_t>(shape.steps);
  return steps / 64 < buckets && steps * shape.parameters <= 16'000'000;
}

// More than these are a mistake of ours.
constexpr std::uint64_t kMostWrongAnswers = 3;

// A question of repetition i: spread over roles, fields, parameters and the
// older half of the steps, the same in each run.
Question Draw(const DataSet& data, Question::Kind kind, std::size_t buckets,
              int i) {
  std::mt19937_64 random(static_cast<std::uint64_t>(i) * 977 + 5);
  const Shape& shape = data.shape();
  Question question;
  question.kind = kind;
  question.role = random() % kRoles;
  question.field = random() % kFields;
  question.parameter = random() % shape.parameters;
  question.step = static_cast<std::int64_t>(
      random() %
      static_cast<std::uint64_t>(std::max<std::int64_t>(1, shape.steps / 2)));
  const auto wanted = static_cast<std::int64_t>(buckets);
  question.bucket_steps =
      std::max<std::int64_t>(1, (shape.steps + wanted - 1) / wanted);
  if (kind == Question::Kind::kHeatMap && !HasNarrowColumns(shape, buckets)) {
    const std::int64_t runs = (shape.steps + 63) / 64;
    question.bucket_steps = 64 * ((runs + wanted - 1) / wanted);
  }
  return question;
}

}  // namespace

Contest::Contest(ContestOptions options,
                 std::vector<std::unique_ptr<Peer>> peers,
                 std::vector<std::string> skipped)
    : options_(std::move(options)), peers_(std::move(peers)) {
  figures_.machine = Machine();
  figures_.seed = options_.seed;
  figures_.skipped = std::move(skipped);
  for (const auto& peer : peers_) {
    PeerFigures figures;
    figures.name = peer->name();
    figures.settings = peer->Settings();
    figures.asked = !peer->ingest_only();
    figures.has_our_tiles = peer->has_our_tiles();
    figures_.peers.push_back(std::move(figures));
  }
}

std::string Contest::FolderOf(std::size_t peer) const {
  return options_.scratch + "/" + peers_[peer]->name();
}

std::vector<std::size_t> Contest::OrderOf(int round) const {
  std::vector<std::size_t> order(peers_.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = round % 2 == 0 ? i : order.size() - 1 - i;
  }
  return order;
}

LoadFigures Contest::Load(std::size_t i, const DataSet& data) {
  Peer& peer = *peers_[i];
  LoadFigures load;
  const std::uint64_t disk = peer.DiskBytes(FolderOf(i));
  load.idle_pss = static_cast<double>(peer.PssBytes());
  const double cpu = peer.CpuSeconds();
  const double own = OwnCpu();
  const Clock::time_point start = Clock::now();
  const double apart = peer.Load(data);
  load.wall_seconds = SecondsSince(start) - apart;
  load.cpu_seconds = peer.CpuSeconds() - cpu;
  load.client_cpu_seconds = OwnCpu() - own + peer.ClientCpuSeconds();
  load.loaded_pss = static_cast<double>(peer.PssBytes());
  peer.Settle();
  load.settled_cpu_seconds = peer.CpuSeconds() - cpu;
  load.settled_pss = static_cast<double>(peer.PssBytes());
  const std::uint64_t settled = peer.DiskBytes(FolderOf(i));
  load.disk_bytes = static_cast<double>(settled) - static_cast<double>(disk);
  return load;
}

// A peer may have lost a value, or not have it at hand yet: it is asked a
// second time, and what is still wrong is counted. Ours has to be right.
void Contest::CheckPeer(std::size_t i, const DataSet& data,
                        const Question& question) {
  CheckCounts* const counts = &figures_.peers[i].checks;
  for (int attempt = 0;; ++attempt) {
    try {
      return Check(data, question, peers_[i]->Ask(data, question)(),
                   peers_[i]->name(), counts);
    } catch (const std::runtime_error& wrong) {
      if (i == 0 || counts->wrong_answers >= kMostWrongAnswers) throw;
      Say(wrong.what());
    }
    if (attempt > 0) break;
    ++counts->asked_again;
    std::this_thread::sleep_for(std::chrono::seconds(2));
  }
  ++counts->wrong_answers;
}

void Contest::CheckAll(std::size_t i, const DataSet& data) {
  using Kind = Question::Kind;
  for (const Kind kind :
       {Kind::kSeries, Kind::kColumn, Kind::kStep, Kind::kHeatMap}) {
    if (kind == Kind::kHeatMap && data.shape().parameters <= kDeepParameters) {
      continue;
    }
    for (int repetition = 0; repetition < 8; ++repetition) {
      // Narrow buckets, and wide ones, which roll-ups answer.
      const bool narrow = repetition % 4 < 2;
      const std::size_t buckets =
          kind == Kind::kSeries ? (narrow ? 1000 : 20) : (narrow ? 20 : 4);
      Question question = Draw(data, kind, buckets, 1000 + repetition);
      question.l2 = kind == Kind::kSeries && repetition % 2 == 1;
      CheckPeer(i, data, question);
    }
  }
}

void Contest::Verify(const Recorded& recorded) {
  const DataSet wide = DataSet::Generate({"small_wide", 101, 300}, 7, recorded,
                                         options_.scratch);
  const DataSet deep =
      DataSet::Generate({"small_deep", 3, 4000}, 8, recorded, options_.scratch);
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Say("checking the answers of " + peers_[i]->name());
    fs::create_directory(FolderOf(i));
    peers_[i]->Start(FolderOf(i));
    for (const DataSet* data : {&wide, &deep}) {
      peers_[i]->Prepare(*data, options_.scratch);
      peers_[i]->Load(*data);
    }
    peers_[i]->Settle();
    CheckAll(i, wide);
    CheckAll(i, deep);
    peers_[i]->Stop();
    fs::remove_all(FolderOf(i));
  }
}

// Each alone on the machine; the folder of its last round stays.
void Contest::LoadAlone(const DataSet& data, int rounds) {
  for (const auto& peer : peers_) peer->Prepare(data, options_.scratch);
  for (int round = 0; round < rounds; ++round) {
    for (const std::size_t i : OrderOf(round)) {
      Say("loading " + data.shape().name + " into " + peers_[i]->name());
      fs::remove_all(FolderOf(i));
      fs::create_directory(FolderOf(i));
      peers_[i]->Start(FolderOf(i));
      figures_.peers[i].loads[data.shape().name].push_back(Load(i, data));
      peers_[i]->Stop();
    }
  }
}

void Contest::LoadDeep(const DataSet& deep) {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i]->ingest_only()) continue;
    Say("loading " + deep.shape().name + " into " + peers_[i]->name());
    peers_[i]->Prepare(deep, options_.scratch);
    peers_[i]->Start(FolderOf(i));
    figures_.peers[i].loads[deep.shape().name].push_back(Load(i, deep));
    peers_[i]->Stop();
  }
}

void Contest::AskWarm(const Entry& entry) {
  Say("asking: " + entry.label);
  figures_.questions.push_back(entry.label);
  std::vector<double> spent(peers_.size());
  for (int repetition = -1; repetition < options_.repetitions; ++repetition) {
    for (const std::size_t i : OrderOf(repetition + 1)) {
      if (peers_[i]->ingest_only()) continue;
      if (spent[i] > options_.budget_seconds && repetition >= 3) continue;
      const Clock::time_point start = Clock::now();
      peers_[i]->Ask(*entry.data, entry.of(repetition + 1));
      const double seconds = SecondsSince(start);
      spent[i] += seconds;
      if (repetition < 0) continue;  // Warms up.
      figures_.peers[i].warm[entry.label].push_back(seconds * 1e3);
    }
  }
}

void Contest::AskCold(const std::vector<Entry>& entries) {
  for (int restart = 0; restart < options_.cold_restarts; ++restart) {
    for (const Entry& entry : entries) {
      for (const std::size_t i : OrderOf(restart)) {
        if (peers_[i]->ingest_only()) continue;
        Say("cold: " + entry.label + ", " + peers_[i]->name());
        DropFromCache(FolderOf(i));
        peers_[i]->Start(FolderOf(i));
        const Clock::time_point start = Clock::now();
        peers_[i]->Ask(*entry.data, entry.of(restart));
        figures_.peers[i].cold[entry.label].push_back(SecondsSince(start) *
                                                      1e3);
        peers_[i]->Stop();
      }
    }
  }
}

std::vector<Contest::Entry> Contest::Entries(const DataSet& wide,
                                             const DataSet& deep) {
  using Kind = Question::Kind;
  const auto entry = [](const DataSet& data, Kind kind, bool l2,
                        std::size_t buckets, std::string label) {
    return Entry{std::move(label), &data, [&data, kind, l2, buckets](int i) {
                   Question question = Draw(data, kind, buckets, i);
                   question.l2 = l2;
                   return question;
                 }};
  };
  const std::string n = std::to_string(wide.shape().parameters);
  const std::string points =
      std::to_string(deep.shape().steps) + " steps to 2,000 points";
  const auto buckets = static_cast<std::size_t>(
      std::clamp<std::int64_t>(wide.shape().steps / 4, 1, 1000));
  return {
      entry(deep, Kind::kSeries, false, 1000, "series, " + points),
      entry(deep, Kind::kSeries, true, 1000, "series of l2, " + points),
      entry(wide, Kind::kColumn, false, 1, "old step, 1 statistic x " + n),
      entry(wide, Kind::kStep, false, 1, "old step, 15 fields x " + n),
      entry(wide, Kind::kHeatMap, false, buckets,
            "heat map, " + n + " x " + std::to_string(buckets) + " buckets"),
  };
}

Figures Contest::Run() {
  const Recorded recorded = Recorded::Load(options_.data);
  figures_.data = recorded.description();
  Verify(recorded);
  const DataSet as_recorded =
      DataSet::AsRecorded("recorded", recorded, options_.scratch);
  Shape shape = as_recorded.shape();
  shape.disk_only = true;
  figures_.shapes = {shape, options_.wide, options_.deep};
  const DataSet wide = DataSet::Generate(options_.wide, options_.seed, recorded,
                                         options_.scratch);
  const DataSet deep = DataSet::Generate(options_.deep, options_.seed + 1,
                                         recorded, options_.scratch);
  LoadAlone(as_recorded, 1);
  LoadAlone(wide, options_.rounds);
  LoadDeep(deep);
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i]->ingest_only()) continue;
    Say("checking the answers of " + peers_[i]->name() + " once more");
    peers_[i]->Start(FolderOf(i));
    CheckAll(i, wide);
    CheckAll(i, deep);
  }
  const std::vector<Entry> entries = Entries(wide, deep);
  for (const Entry& entry : entries) AskWarm(entry);
  for (const auto& peer : peers_) {
    if (!peer->ingest_only()) peer->Stop();
  }
  AskCold({entries[0], entries[2]});
  return figures_;
}

}  // namespace gradtap::bench

// One store that is compared: how it is started, loaded and asked.
//
// One thread. Layer: tests; std only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_PEER_H_
#define GRADTAP_TESTS_BENCH_PEERS_PEER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/peers/data_set.h"
#include "bench/peers/server_process.h"

namespace gradtap::bench {

struct Question {
  enum class Kind {
    kSeries,   // One parameter's statistic over all steps, in step buckets.
    kColumn,   // One statistic of all parameters at one step.
    kStep,     // All fifteen floats of all parameters at one step.
    kHeatMap,  // One statistic of all parameters, its worst in step buckets.
  };
  Kind kind = Kind::kSeries;
  std::size_t role = 0;
  std::size_t field = 0;
  // kSeries: in the place of the field the L2 norm, which follows from mean,
  // std and kNumel.
  bool l2 = false;
  std::size_t parameter = 0;
  std::int64_t step = 0;
  std::int64_t bucket_steps = 1;
};

// What a bucket's worst value is: of statistics of either sign the one of
// largest magnitude, of two such the positive one; of others the largest.
inline bool WorstIsByMagnitude(const Question& question) {
  return question.field != 1 && question.field != 2;  // std, abs_mean.
}
inline double WorstOf(const Question& question, double min, double max) {
  return WorstIsByMagnitude(question) && max < -min ? min : max;
}

// Smallest and largest value of a bucket of steps.
struct Extremes {
  double min = 0;
  double max = 0;
};
struct Point {
  std::size_t parameter = 0;
  std::int64_t step = 0;
  double value = 0;
};

struct Answer {
  // kColumn: one a parameter. kStep: the same for each role and field.
  // kHeatMap: the worst of each bucket, buckets of a parameter after each
  // other.
  std::vector<double> values;
  std::vector<Extremes> cells;  // kSeries: one a bucket.
  // kSeries of a store that has buckets of its own: what it chose to keep.
  std::vector<Point> points;
};

class Peer {
 public:
  virtual ~Peer() = default;

  virtual std::string name() const = 0;
  // Empty: it is here. Else what is missing and how to get it.
  virtual std::string Missing() const = 0;
  // Version and settings, for people.
  virtual std::string Settings() const = 0;
  // True: a variant of another peer that is loaded, and not asked.
  virtual bool ingest_only() const { return false; }
  // True: it stores gradtap's own tiles, and is no measure of their size.
  virtual bool has_our_tiles() const { return false; }

  // Returns when it answers. `folder` is its own, empty or from a run before.
  virtual void Start(const std::string& folder) = 0;
  virtual void Stop() = 0;
  // Encodes what Load() sends, into files in `scratch`. Off the clock.
  virtual void Prepare(const DataSet& data, const std::string& scratch) = 0;
  // Returns when all is acknowledged. Says how many seconds of its own work,
  // which is not the peer's, the clock is to leave out: a program's start.
  virtual double Load(const DataSet& data) = 0;
  // CPU time of the last Load()'s client where that is not this process's.
  virtual double ClientCpuSeconds() const { return 0; }
  // All of the work that it puts off: flushing, merging, vacuuming.
  virtual void Settle() = 0;
  // Of data and indexes, logs apart where they can be told apart.
  virtual std::uint64_t DiskBytes(const std::string& folder) const = 0;

  // Asks, and waits for the whole answer: on the clock. What it returns makes
  // it an Answer, off the clock, before the next call.
  virtual std::function<Answer()> Ask(const DataSet& data,
                                      const Question& question) = 0;

  // Of its server.
  double CpuSeconds() const { return server_->CpuSeconds(); }
  std::uint64_t PssBytes() const { return server_->PssBytes(); }

 protected:
  std::unique_ptr<ServerProcess> server_;
};

std::unique_ptr<Peer> MakeGradtapPeer(const std::string& bin);
enum class VictoriaPath { kLines, kJson };
std::unique_ptr<Peer> MakeVictoriaPeer(VictoriaPath path);
enum class ClickHouseCodec { kLz4, kZstd };
std::unique_ptr<Peer> MakeClickHousePeer(ClickHouseCodec codec);
std::unique_ptr<Peer> MakePostgresPeer();
std::unique_ptr<Peer> MakeSqlitePeer(const std::string& bin);

inline std::size_t Buckets(const DataSet& data, const Question& question) {
  return static_cast<std::size_t>(
      (data.shape().steps + question.bucket_steps - 1) / question.bucket_steps);
}

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_PEER_H_

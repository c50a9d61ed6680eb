// What every peer is loaded with: seeded series drawn from recorded runs.
//
// Each parameter of a data set is one recorded parameter, read from a step of
// its own on, times a factor of its own: all fifteen floats of a record
// (weight, gradient and update; mean, std, abs_mean, min, max) keep going
// together. At either end of the recording a series turns round, with a
// slightly different factor, so that no stretch comes twice.
//
// The values stand in a file, mapped into memory, a step after the other; this
// is the truth that answers are compared with.
//
// One thread. Layer: tests; std and POSIX only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_DATA_SET_H_
#define GRADTAP_TESTS_BENCH_PEERS_DATA_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gradtap::bench {

inline constexpr std::size_t kRoles = 3;
inline constexpr std::size_t kFields = 5;
inline constexpr std::size_t kFloats = kRoles * kFields;
// Elements of each parameter, for what is derived from a record.
inline constexpr std::int64_t kNumel = 4096;
extern const char* const kRoleNames[kRoles];
extern const char* const kFieldNames[kFields];

// A file's bytes, read-only; gone from memory with the object.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const char* data() const { return data_; }
  std::size_t size() const { return size_; }
  // Reads every page, so that nobody waits for them later.
  void Touch() const;

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

// Two recorded runs, or what stands in for them.
class Recorded {
 public:
  // Of `folder`/cnn and gpt (.f32 and .txt). An empty folder: `StandIn()`.
  static Recorded Load(const std::string& folder);
  // Seeded random walks of log-normal size: smooth, positive deviations, no
  // real run. Good for a smoke test alone.
  static Recorded StandIn();

  struct Series {
    std::size_t run = 0;
    std::size_t first_column = 0;  // Of fifteen.
  };
  const std::vector<Series>& series() const { return series_; }
  std::int64_t steps() const { return steps_; }
  // Fifteen floats.
  const float* At(const Series& series, std::int64_t step) const {
    const Run& run = runs_[series.run];
    return run.values.data() + static_cast<std::size_t>(step) * run.columns +
           series.first_column;
  }
  const std::string& description() const { return description_; }

 private:
  struct Run {
    std::size_t columns = 0;
    std::vector<float> values;
  };
  void Add(const std::string& stem);

  std::vector<Run> runs_;
  std::vector<Series> series_;
  std::int64_t steps_ = 0;
  std::string description_;
};

// A data set of more parameters is asked for steps and heat maps, one of so
// many or fewer for series.
inline constexpr std::size_t kDeepParameters = 100;

struct Shape {
  std::string name;  // Of the run, and of the peers' tables.
  std::size_t parameters = 0;
  std::int64_t steps = 0;
  bool disk_only = false;  // Only its size is a figure.

  std::size_t values() const {
    return parameters * static_cast<std::size_t>(steps) * kFloats;
  }
};

class DataSet {
 public:
  // Parameters drawn from those that were recorded, each scaled by a power of
  // two, from a step of its own on. Writes the file in `folder`.
  static DataSet Generate(const Shape& shape, std::uint64_t seed,
                          const Recorded& recorded, const std::string& folder);
  // All that was recorded, as it was.
  static DataSet AsRecorded(const std::string& name, const Recorded& recorded,
                            const std::string& folder);

  const Shape& shape() const { return shape_; }
  const std::string& path() const { return path_; }
  // shape().parameters floats.
  const float* Column(std::int64_t step, std::size_t role,
                      std::size_t field) const {
    return reinterpret_cast<const float*>(file_.data()) +
           ((static_cast<std::size_t>(step) * kRoles + role) * kFields +
            field) *
               shape_.parameters;
  }
  float At(std::int64_t step, std::size_t role, std::size_t field,
           std::size_t parameter) const {
    return Column(step, role, field)[parameter];
  }

 private:
  DataSet(Shape shape, std::string path);

  Shape shape_;
  std::string path_;
  MappedFile file_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_DATA_SET_H_

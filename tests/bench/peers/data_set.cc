#include "bench/peers/data_set.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>
#include <stdexcept>
#include <utility>

namespace gradtap::bench {
namespace {

// Where each parameter of a data set comes from.
struct Origin {
  const Recorded::Series* series = nullptr;
  std::int64_t start = 0;
  // A power of two, so that the values keep their bits below the exponent:
  // any other would fill those that are zero in what was recorded.
  double factor = 1;
  // What a pass over the recording adds to the factor, so that none is a copy.
  double turn = 0;
};

std::vector<Origin> DrawOrigins(std::size_t parameters, std::uint64_t seed,
                                const Recorded& recorded) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<Origin> origins(parameters);
  for (Origin& origin : origins) {
    origin.series = &recorded.series()[random() % recorded.series().size()];
    origin.start = static_cast<std::int64_t>(
        random() % static_cast<std::uint64_t>(recorded.steps()));
    origin.factor = std::exp2(std::floor(unit(random) * 9) - 4);
    origin.turn = unit(random) * 0.02 - 0.01;
  }
  return origins;
}

void WriteStep(const std::vector<Origin>& origins, const Recorded& recorded,
               std::int64_t step, std::vector<float>* columns) {
  const std::size_t n = origins.size();
  for (std::size_t p = 0; p < n; ++p) {
    const Origin& origin = origins[p];
    const std::int64_t at = origin.start + step;
    const std::int64_t pass = at / recorded.steps();
    const std::int64_t within = at % recorded.steps();
    const float* const from = recorded.At(
        *origin.series, pass % 2 == 0 ? within : recorded.steps() - 1 - within);
    const auto factor = static_cast<float>(
        origin.factor * (1 + origin.turn * static_cast<double>(pass % 64)));
    for (std::size_t i = 0; i < kFloats; ++i) {
      (*columns)[i * n + p] = from[i] * factor;
    }
  }
}

// Step by step. Returns the file's path.
std::string WriteFile(const Shape& shape, const std::vector<Origin>& origins,
                      const Recorded& recorded, const std::string& folder) {
  const std::string path = folder + "/" + shape.name + ".values";
  std::ofstream out(path, std::ios::binary);
  std::vector<float> columns(kFloats * shape.parameters);
  for (std::int64_t step = 0; step < shape.steps; ++step) {
    WriteStep(origins, recorded, step, &columns);
    out.write(reinterpret_cast<const char*>(columns.data()),
              static_cast<std::streamsize>(columns.size() * sizeof(float)));
  }
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
  return path;
}

}  // namespace

const char* const kRoleNames[kRoles] = {"weight", "grad", "update"};
const char* const kFieldNames[kFields] = {"mean", "std", "abs_mean", "min",
                                          "max"};

MappedFile::MappedFile(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) {
    throw std::runtime_error("cannot read " + path);
  }
  size_ = static_cast<std::size_t>(status.st_size);
  void* const at = size_ == 0
                       ? nullptr
                       : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  if (at == MAP_FAILED) throw std::runtime_error("cannot map " + path);
  data_ = static_cast<const char*>(at);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::Touch() const {
  volatile char sink = 0;
  for (std::size_t i = 0; i < size_; i += 4096) sink = data_[i];
  static_cast<void>(sink);
}

Recorded Recorded::Load(const std::string& folder) {
  if (folder.empty()) return StandIn();
  Recorded recorded;
  recorded.Add(folder + "/cnn");
  recorded.Add(folder + "/gpt");
  recorded.description_ = "drawn from the recorded runs cnn and gpt";
  return recorded;
}

void Recorded::Add(const std::string& stem) {
  std::ifstream names(stem + ".txt");
  if (!names) throw std::runtime_error("cannot read " + stem + ".txt");
  Run run;
  for (std::string line; std::getline(names, line);) {
    if (line.rfind("buffer", 0) == 0) {
      run.columns += kFields;
    } else if (!line.empty()) {
      series_.push_back({runs_.size(), run.columns});
      run.columns += kFloats;
    }
  }
  const MappedFile file(stem + ".f32");
  const std::size_t row = run.columns * sizeof(float);
  if (row == 0 || file.size() == 0 || file.size() % row != 0) {
    throw std::runtime_error(stem + ".f32 is no whole number of rows of " +
                             std::to_string(run.columns) + " floats");
  }
  const auto* const floats = reinterpret_cast<const float*>(file.data());
  run.values.assign(floats, floats + file.size() / sizeof(float));
  const auto steps = static_cast<std::int64_t>(file.size() / row);
  steps_ = runs_.empty() ? steps : std::min(steps_, steps);
  runs_.push_back(std::move(run));
}

Recorded Recorded::StandIn() {
  Recorded recorded;
  recorded.steps_ = 512;
  recorded.description_ = "random walks, NOT recorded values (no --data)";
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  Run run;
  run.columns = 8 * kFloats;
  std::vector<double> size(8 * kRoles, -3);
  for (std::int64_t step = 0; step < recorded.steps_; ++step) {
    for (double& s : size) {
      s += 0.05 * normal(random);
      const double std = std::exp(s);
      for (const double value : {0.1 * std * normal(random), std,
                                 0.8 * std * std::exp(0.01 * normal(random)),
                                 -3 * std * std::exp(0.1 * normal(random)),
                                 3 * std * std::exp(0.1 * normal(random))}) {
        run.values.push_back(static_cast<float>(value));
      }
    }
  }
  recorded.runs_.push_back(std::move(run));
  for (std::size_t i = 0; i < 8; ++i) {
    recorded.series_.push_back({0, i * kFloats});
  }
  return recorded;
}

DataSet::DataSet(Shape shape, std::string path)
    : shape_(std::move(shape)), path_(std::move(path)), file_(path_) {
  file_.Touch();
}

DataSet DataSet::Generate(const Shape& shape, std::uint64_t seed,
                          const Recorded& recorded, const std::string& folder) {
  return DataSet(shape,
                 WriteFile(shape, DrawOrigins(shape.parameters, seed, recorded),
                           recorded, folder));
}

DataSet DataSet::AsRecorded(const std::string& name, const Recorded& recorded,
                            const std::string& folder) {
  std::vector<Origin> origins;
  for (const Recorded::Series& series : recorded.series()) {
    origins.push_back({&series});
  }
  const Shape shape{name, origins.size(), recorded.steps()};
  return DataSet(shape, WriteFile(shape, origins, recorded, folder));
}

}  // namespace gradtap::bench

#include "bench/recording.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace gradtap::bench {
namespace {

constexpr std::size_t kFields = 5;

std::vector<float> ReadFloats(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  std::vector<float> values(static_cast<std::size_t>(file.tellg()) / 4);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * 4));
  return values;
}

// Copies a row's five fields of one record to the end of the role's values.
void AppendRecord(const float* record, RecordedRole* role) {
  role->values.insert(role->values.end(), record, record + kFields);
}

}  // namespace

const RecordedRole* Recording::Find(const std::string& role) const {
  for (const RecordedRole& candidate : roles) {
    if (candidate.name == role && candidate.parameters != 0) return &candidate;
  }
  return nullptr;
}

Recording ReadRecording(const std::string& folder, const std::string& name) {
  Recording recording;
  recording.name = name;
  std::ifstream names(folder + "/" + name + ".txt");
  std::size_t parameters = 0;
  std::size_t buffers = 0;
  for (std::string line; std::getline(names, line);) {
    ++(line.rfind("buffer", 0) == 0 ? buffers : parameters);
  }
  const std::vector<float> values = ReadFloats(folder + "/" + name + ".f32");
  const std::size_t width = (3 * parameters + buffers) * kFields;
  if (width == 0) return recording;
  recording.steps = values.size() / width;
  recording.roles = {{"weight", parameters, {}},
                     {"grad", parameters, {}},
                     {"update", parameters, {}},
                     {"buffer", buffers, {}}};
  for (std::size_t step = 0; step < recording.steps; ++step) {
    const float* record = values.data() + step * width;
    for (std::size_t p = 0; p < parameters; ++p) {
      for (std::size_t role = 0; role < 3; ++role, record += kFields) {
        AppendRecord(record, &recording.roles[role]);
      }
    }
    for (std::size_t b = 0; b < buffers; ++b, record += kFields) {
      AppendRecord(record, &recording.roles[3]);
    }
  }
  return recording;
}

Recording MadeUpRecording(std::size_t parameters, std::size_t steps) {
  Recording recording;
  recording.name = "made-up";
  recording.steps = steps;
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (const char* name : {"weight", "grad", "update"}) {
    RecordedRole role{name, parameters, {}};
    std::vector<double> scale(parameters);
    for (double& s : scale) s = std::exp(normal(random));
    for (std::size_t step = 0; step < steps; ++step) {
      for (double& s : scale) {
        s *= std::exp(0.1 * normal(random));
        const auto std = static_cast<float>(s);
        const float record[kFields] = {
            static_cast<float>(0.1 * s * normal(random)), std,
            static_cast<float>(s * (0.8 + 0.01 * normal(random))),
            static_cast<float>(-s * (3 + 0.2 * normal(random))),
            static_cast<float>(s * (3 + 0.2 * normal(random)))};
        AppendRecord(record, &role);
      }
    }
    recording.roles.push_back(std::move(role));
  }
  return recording;
}

server::FloatBlock BlockOf(const Recording& recording, const RecordedRole& role,
                           int field, std::size_t parameter,
                           std::size_t parameters, std::size_t step,
                           std::size_t steps) {
  server::FloatBlock block;
  parameters = std::min(parameters, role.parameters - parameter);
  steps = std::min(steps, recording.steps - step);
  block.parameters = static_cast<std::uint32_t>(parameters);
  block.steps = static_cast<std::uint32_t>(steps);
  block.values.resize(block.size());
  for (std::size_t p = 0; p < parameters; ++p) {
    for (std::size_t t = 0; t < steps; ++t) {
      block.values[p * steps + t] =
          role.values[((step + t) * role.parameters + parameter + p) * kFields +
                      static_cast<std::size_t>(field)];
    }
  }
  return block;
}

}  // namespace gradtap::bench

// Tiles of recorded runs: bytes a value by role and field, for several shapes,
// beside byte planes + zstd, and how fast they are written and read beside a
// copy of the same bytes.
//
//   tile_benchmark [[--shapes] FOLDER NAME...]
//
// Recordings are those of bench/recording.h; without any it takes a short one
// that is made up, to prove that it runs. --shapes: other shapes of tiles too,
// and no details. Times are the thread's own, the fastest of some passes.

#include <time.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bench/recording.h"
#include "core/record.h"
#include "server/store/tile/siblings.h"
#include "server/store/tile/tile.h"

namespace gradtap::bench {
namespace {

using server::FloatBlock;
using server::TileDecoder;
using server::TileEncoder;
using server::TileReferences;

// The thread's own time: others use the machine too.
double Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// A tile to be, its tile, and what it leans on.
struct Sample {
  FloatBlock block;
  std::string tile;
  const Sample* scale = nullptr;
  const Sample* increment = nullptr;
  const Sample* twin = nullptr;
  FloatBlock decoded;

  TileReferences references(bool of_decoded) const {
    const auto get = [&](const Sample* from) {
      return from == nullptr ? nullptr
                             : (of_decoded ? &from->decoded : &from->block);
    };
    return {get(scale), get(increment), get(twin)};
  }
};

// The roles of a recording, in its order.
constexpr std::array<Role, 4> kRoles = {Role::kWeight, Role::kGrad,
                                        Role::kUpdate, Role::kBuffer};
constexpr std::size_t kUpdate = 2;

// All tiles of a recording, [role][field][tile].
using Tiles = std::vector<std::vector<std::vector<Sample>>>;

Tiles Cut(const Recording& recording, std::size_t parameters,
          std::size_t steps) {
  Tiles tiles;
  for (const RecordedRole& role : recording.roles) {
    auto& fields = tiles.emplace_back(kFieldNames.size());
    for (std::size_t t = 0; t < recording.steps; t += steps) {
      for (std::size_t p = 0; p < role.parameters; p += parameters) {
        for (int f = 0; f < 5; ++f) {
          Sample& sample = fields[static_cast<std::size_t>(f)].emplace_back();
          sample.block = BlockOf(recording, role, f, p, parameters, t, steps);
        }
      }
    }
  }
  for (std::size_t r = 0; r < tiles.size(); ++r) {
    for (std::size_t f = 0; f < kFieldNames.size(); ++f) {
      const server::TileSiblings siblings =
          server::SiblingsOf(kRoles[r], static_cast<server::TileField>(f + 1));
      for (std::size_t i = 0; i < tiles[r][f].size(); ++i) {
        Sample& sample = tiles[r][f][i];
        if (siblings.std_as_scale) sample.scale = &tiles[r][1][i];
        if (siblings.mean_as_twin) sample.twin = &tiles[r][0][i];
        if (siblings.update_as_increment) {
          sample.increment = &tiles[kUpdate][0][i];
        }
      }
    }
  }
  return tiles;
}

template <typename Function>
void ForEach(Tiles& tiles, const Function& function) {
  // The increments of weights are updates': later roles come first, and of a
  // role mean and std.
  for (std::size_t r = tiles.size(); r-- > 0;) {
    for (std::size_t f = 0; f < tiles[r].size(); ++f) {
      for (Sample& sample : tiles[r][f]) function(sample);
    }
  }
}

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "tile_benchmark: %s\n", what);
  std::exit(1);
}

void Encode(TileEncoder& encoder, Sample& sample) {
  auto tile = encoder.EncodeFloats(sample.block, sample.references(false));
  Check(tile.ok(), "a block cannot be encoded");
  sample.tile = *std::move(tile);
}

void Decode(TileDecoder& decoder, Sample& sample) {
  const auto status = decoder.DecodeFloats(sample.tile, sample.references(true),
                                           {}, &sample.decoded);
  Check(status.ok(), "a tile cannot be decoded");
}

// The same block as byte planes of plain or zig-zag delta values, whichever is
// shorter, through zstd 3.
std::size_t BaselineBytes(const FloatBlock& block) {
  std::size_t best = ~std::size_t{0};
  const std::size_t n = block.values.size();
  std::string planes(4 * n, '\0');
  std::string out(ZSTD_compressBound(planes.size()), '\0');
  for (const bool delta : {false, true}) {
    for (std::size_t i = 0; i < n; ++i) {
      const auto bits = [&](std::size_t at) {
        std::uint32_t b;
        std::memcpy(&b, &block.values[at], 4);
        return b;
      };
      std::uint32_t value = bits(i);
      if (delta && i % block.steps != 0) {
        const std::uint32_t d = value - bits(i - 1);
        value = (d << 1) ^ (0u - (d >> 31));
      }
      for (std::size_t b = 0; b < 4; ++b) {
        planes[b * n + i] = static_cast<char>(value >> (8 * b));
      }
    }
    best = std::min(best, ZSTD_compress(out.data(), out.size(), planes.data(),
                                        planes.size(), 3));
  }
  return best;
}

struct Sizes {
  std::size_t values = 0, tile = 0, baseline = 0;

  void Add(const Sizes& other) {
    values += other.values;
    tile += other.tile;
    baseline += other.baseline;
  }
  void Print(const std::string& name) const {
    if (values == 0) return;
    std::printf("  %-16s %9zu values  %.3f B  (byte planes + zstd %.3f B)\n",
                name.c_str(), values,
                static_cast<double>(tile) / static_cast<double>(values),
                static_cast<double>(baseline) / static_cast<double>(values));
  }
};

void PrintSizes(const Recording& recording, const Tiles& tiles, bool details) {
  Sizes all;
  for (std::size_t r = 0; r < tiles.size(); ++r) {
    Sizes role;
    for (std::size_t f = 0; f < 5; ++f) {
      Sizes field;
      for (const Sample& sample : tiles[r][f]) {
        field.Add({sample.block.values.size(), sample.tile.size(),
                   BaselineBytes(sample.block)});
      }
      if (details) field.Print(recording.roles[r].name + "." + kFieldNames[f]);
      role.Add(field);
    }
    if (details) role.Print(recording.roles[r].name);
    all.Add(role);
  }
  all.Print("all");
}

// GB/s of decoded floats of the fastest of some passes over all tiles.
template <typename Pass>
double Fastest(std::size_t bytes, int passes, const Pass& pass) {
  double best = 1e9;
  for (int i = 0; i < passes; ++i) {
    const double start = Now();
    pass();
    best = std::min(best, Now() - start);
  }
  return static_cast<double>(bytes) / best / 1e9;
}

void Measure(const Recording& recording, std::size_t parameters,
             std::size_t steps, bool details) {
  Tiles tiles = Cut(recording, parameters, steps);
  TileEncoder encoder;
  TileDecoder decoder;
  std::size_t bytes = 0;
  ForEach(tiles, [&](Sample& sample) {
    Encode(encoder, sample);
    Decode(decoder, sample);
    bytes += sample.block.values.size() * 4;
    Check(sample.decoded.values.size() == sample.block.values.size() &&
              std::memcmp(sample.decoded.values.data(),
                          sample.block.values.data(),
                          sample.block.values.size() * 4) == 0,
          "a tile gave back other values");
  });
  std::printf("%s, tiles of %zu x %zu\n", recording.name.c_str(), parameters,
              steps);
  PrintSizes(recording, tiles, details);
  const double copy = Fastest(bytes, 10, [&] {
    ForEach(tiles, [&](Sample& s) {
      std::memcpy(s.decoded.values.data(), s.block.values.data(),
                  s.block.values.size() * 4);
    });
  });
  const double encode = Fastest(bytes, 3, [&] {
    ForEach(tiles, [&](Sample& s) { Encode(encoder, s); });
  });
  const double decode = Fastest(bytes, 10, [&] {
    ForEach(tiles, [&](Sample& s) { Decode(decoder, s); });
  });
  std::printf("  encode %.3f GB/s, decode %.3f GB/s, copy %.1f GB/s\n", encode,
              decode, copy);
  if (!details) return;
  for (std::size_t r = 0; r < tiles.size(); ++r) {
    for (std::size_t f = 0; f < 5; ++f) {
      std::size_t field_bytes = 0;
      for (Sample& s : tiles[r][f]) field_bytes += s.block.values.size() * 4;
      if (field_bytes == 0) continue;
      const double speed = Fastest(field_bytes, 10, [&] {
        for (Sample& s : tiles[r][f]) Decode(decoder, s);
      });
      const double write = Fastest(field_bytes, 2, [&] {
        for (Sample& s : tiles[r][f]) Encode(encoder, s);
      });
      std::printf("  %-16s decode %.3f GB/s, encode %.3f GB/s\n",
                  (recording.roles[r].name + "." + kFieldNames[f]).c_str(),
                  speed, write);
    }
  }
}

// Beside the one that is written: parameters and steps of a tile.
constexpr std::pair<std::size_t, std::size_t> kShapes[] = {
    {256, 64}, {128, 128}, {64, 128},  {32, 256}, {128, 256},
    {32, 512}, {64, 512},  {16, 1024}, {64, 1024}};

int Main(int argc, char** argv) {
  if (argc < 3) {
    Measure(MadeUpRecording(20, 300), server::kTileParameters,
            server::kTileSteps, true);
    return 0;
  }
  const bool shapes = std::string(argv[1]) == "--shapes";
  const char* folder = argv[shapes ? 2 : 1];
  for (int i = shapes ? 3 : 2; i < argc; ++i) {
    const Recording recording = ReadRecording(folder, argv[i]);
    Check(recording.steps != 0, "no such recording");
    Measure(recording, server::kTileParameters, server::kTileSteps, !shapes);
    if (!shapes) continue;
    for (const auto& [parameters, steps] : kShapes) {
      Measure(recording, parameters, steps, false);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) { return gradtap::bench::Main(argc, argv); }

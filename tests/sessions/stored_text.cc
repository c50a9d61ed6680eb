#include "sessions/stored_text.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "core/codec.h"
#include "core/statistic.h"
#include "server/store/store_testing.h"

namespace gradtap::server::testing {
namespace {

constexpr std::size_t kShownLines = 24;

[[noreturn]] void Fail(const absl::Status& status) {
  throw std::runtime_error(status.ToString());
}

template <typename... Args>
std::string Format(const char* format, Args... args) {
  char text[512];
  std::snprintf(text, sizeof(text), format, args...);
  return text;
}

// Two texts are the same if and only if the numbers are, bit for bit.
std::string Text(float value) {
  if (std::isnan(value)) {
    return Format("nan:%08x", std::bit_cast<std::uint32_t>(value));
  }
  return Format("%.9g", static_cast<double>(value));
}
std::string Text(double value) {
  if (std::isnan(value)) {
    return Format("nan:%016llx", static_cast<unsigned long long>(
                                     std::bit_cast<std::uint64_t>(value)));
  }
  return Format("%.17g", value);
}
std::string Text(std::uint64_t value) { return std::to_string(value); }

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes)
    text += Format("%02x", static_cast<unsigned char>(c));
  return text;
}

// FNV-1a, of 64 bits.
std::uint64_t Digest(const std::vector<std::string>& lines) {
  std::uint64_t digest = 14695981039346656037ULL;
  for (const std::string& line : lines) {
    for (const char c : line + "\n") {
      digest = (digest ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    }
  }
  return digest;
}

std::string Joined(const std::vector<std::string>& lines) {
  std::string text;
  if (lines.size() <= kShownLines) {
    for (const std::string& line : lines) text += line + "\n";
    return text;
  }
  for (std::size_t i = 0; i < 2; ++i) {
    text += lines[i].substr(0, 200) + "\n";
  }
  return text + Format("  ... %zu lines in all, digest %016llx\n", lines.size(),
                       static_cast<unsigned long long>(Digest(lines)));
}

std::string ParameterLine(const Parameter& p) {
  std::string line = "  " + p.name;
  line += Format(" kind %d placement %d", static_cast<int>(p.kind),
                 static_cast<int>(p.placement));
  line +=
      " module '" + p.module_path + "' " + p.module_type + " " + p.dtype + " [";
  for (const std::int64_t n : p.shape) line += std::to_string(n) + " ";
  line += "] " + p.device + " " + p.layout + (p.requires_grad ? " grad" : "");
  line += " numel " + Text(p.numel) + " bytes " + Text(p.bytes) + " roles";
  for (const Role role : p.roles) {
    line += " " + std::string(RoleName(role));
  }
  for (const std::string& alias : p.aliases) line += " alias " + alias;
  if (!p.unsupported_reason.empty()) {
    line += " unsupported: " + p.unsupported_reason;
  }
  return line;
}

std::string SchemaText(const Schema& schema) {
  std::string text =
      Format("schema %u fingerprint %016llx", schema.schema_id,
             static_cast<unsigned long long>(schema.fingerprint));
  for (const std::string& name : schema.optimizers) text += " by " + name;
  std::vector<std::string> lines;
  for (const Parameter& p : schema.parameters) {
    lines.push_back(ParameterLine(p));
  }
  return text + "\n" + Joined(lines);
}

void AddColumns(const RoleColumns& columns, std::vector<std::string>* lines) {
  for (std::size_t place = 0; place < columns.size(); ++place) {
    std::string line = "  " + std::string(RoleName(columns.role)) + " " +
                       std::to_string(place);
    if (columns.absent[place] != 0) {
      lines->push_back(line + " absent");
      continue;
    }
    const Record r = columns.Get(place);
    for (const float value : {r.mean, r.std, r.abs_mean, r.min, r.max}) {
      line += " " + Text(value);
    }
    for (const std::uint64_t count : {r.zero, r.nan, r.pos_inf, r.neg_inf}) {
      line += " " + Text(count);
    }
    lines->push_back(line);
  }
}

void AddHistograms(Store* store, const StepRow& row, const RoleColumns& columns,
                   std::vector<std::string>* lines) {
  const auto blocks = static_cast<std::uint32_t>(
      (columns.size() + kHistogramBlockPlaces - 1) / kHistogramBlockPlaces);
  for (std::uint32_t block = 0; block < blocks; ++block) {
    const auto body = store->ReadHistogramBlock(row.stream, row.branch,
                                                row.step, columns.role, block);
    if (!body.ok()) Fail(body.status());
    if (!body->has_value()) continue;
    const auto histograms = DecodeHistogramBlock(**body);
    if (!histograms.ok()) Fail(histograms.status());
    for (const HistogramData& histogram : *histograms) {
      std::string line = "  histogram " +
                         std::string(RoleName(histogram.role)) + " " +
                         std::to_string(histogram.place);
      for (std::size_t i = 0; i < histogram.bin.size(); ++i) {
        line += Format(" %u:", histogram.bin[i]) + Text(histogram.count[i]);
      }
      lines->push_back(line);
    }
  }
}

std::string StepText(Store* store, const StepRow& row) {
  const std::string body = StoredBody(row);
  const auto view = StepView::Parse(body);
  if (!view.ok()) Fail(view.status());
  const StepData step = ToStepData(*view);
  std::string text = Format("step %lld branch %u time %lld interval %u",
                            static_cast<long long>(step.step), row.branch,
                            static_cast<long long>(step.wall_time_unix_ns),
                            step.interval_steps);
  if (step.skipped == GapCause::kUnspecified) {
    text += Format(" schema %u", step.schema_id);
  } else {  // It needs no schema. Sealed, it has its window's.
    text += Format(" skipped %d '", static_cast<int>(step.skipped)) +
            step.skipped_detail + "'";
  }
  std::vector<std::string> lines;
  for (const ScalarValue& scalar : step.scalars) {
    lines.push_back("  scalar " + scalar.name + " " + Text(scalar.value));
  }
  std::sort(lines.begin(), lines.end());  // Sealed, they come by name.
  for (const RoleColumns& columns : step.roles) {
    AddColumns(columns, &lines);
    AddHistograms(store, row, columns, &lines);
  }
  return text + "\n" + Joined(lines);
}

std::string HelloText(const StreamHello& hello) {
  std::string text = "stream of launch " + hello.launch;
  text += Format(" rank %u of %u", hello.rank, hello.world_size);
  text += " nonce " + Hex(hello.process_nonce) + " start " +
          std::to_string(hello.start_time_unix_ns) + " host " + hello.host +
          " pid " + std::to_string(hello.pid) + " agent " +
          hello.agent_version + " torch " + hello.torch_version;
  for (const auto& [key, value] : hello.tags) {
    text += " tag " + key + "='" + value + "'";
  }
  return text + "\n";
}

std::string CountsText(const StreamEntry& stream) {
  std::string text =
      "durable " + Text(stream.durable_seq) + " stored " +
      Text(stream.stored_steps) + " skipped " + Text(stream.skipped_steps) +
      " lost " + Text(stream.lost_steps) + " rejected " +
      Text(stream.rejected_records) + Format(" schema %u\n", stream.schema_id);
  for (const Branch& branch : stream.branches) {
    text += Format("branch %u steps %lld to %lld rows %llu rollback %lld\n",
                   branch.branch, static_cast<long long>(branch.first_step),
                   static_cast<long long>(branch.last_step),
                   static_cast<unsigned long long>(branch.rows),
                   static_cast<long long>(branch.rollback_step));
  }
  if (stream.end.has_value()) {
    const EndData& end = *stream.end;
    text += Format("end %d time %lld seen ", static_cast<int>(end.reason),
                   static_cast<long long>(end.wall_time_unix_ns)) +
            Text(end.steps_seen) + " recorded " + Text(end.steps_recorded) +
            " skipped " + Text(end.steps_skipped) + " lost " +
            Text(end.steps_lost) + "\n";
  }
  return text;
}

std::string StreamText(Store* store, const StreamEntry& stream) {
  std::string text = HelloText(stream.hello) + CountsText(stream);
  for (std::uint32_t id = 1; id <= stream.schema_id; ++id) {
    const auto schema = store->ReadSchema(stream.id, id);
    if (absl::IsNotFound(schema.status())) continue;  // Ids have holes.
    if (!schema.ok()) Fail(schema.status());
    text += SchemaText(**schema);
  }
  for (const Branch& branch : stream.branches) {
    const absl::Status scanned =
        store->ScanSteps(stream.id, branch.branch, INT64_MIN, INT64_MAX,
                         [&](const StepRow& row) {
                           text += StepText(store, row);
                           return true;
                         });
    if (!scanned.ok()) Fail(scanned);
  }
  const auto gaps = store->ReadGaps(stream.id);
  if (!gaps.ok()) Fail(gaps.status());
  for (const GapRow& row : *gaps) {
    text += Format("gap branch %u cause %d steps %lld to %lld: %llu '",
                   row.branch, static_cast<int>(row.gap.cause),
                   static_cast<long long>(row.gap.first_step),
                   static_cast<long long>(row.gap.last_step),
                   static_cast<unsigned long long>(row.gap.steps)) +
            row.gap.detail + "'\n";
  }
  return text;
}

}  // namespace

std::string StoredText(Store* store, const std::string& run) {
  const auto entry = store->FindRun(run);
  if (entry == nullptr) return "no run\n";
  std::string text;
  for (const StreamEntry& stream : entry->streams) {
    text += StreamText(store, stream);
  }
  return text;
}

}  // namespace gradtap::server::testing

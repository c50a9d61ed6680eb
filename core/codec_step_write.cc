// Steps, on the training thread: one pass to know the size, one to write.

#include <algorithm>

#include "core/codec.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using wire::BackwardWriter;
using wire::BytesFieldSize;
using wire::VarintFieldSize;
using wire::VarintSize;

// The first place at or after `from` that is not zero, or the size. Almost all
// are zero: looks at eight at once.
std::size_t NextNonzero(const std::vector<std::uint64_t>& column,
                        std::size_t from) {
  const std::uint64_t* c = column.data();
  for (; from + 8 <= column.size(); from += 8) {
    const std::uint64_t* p = c + from;
    if ((p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7]) != 0) break;
  }
  while (from < column.size() && c[from] == 0) ++from;
  return from;
}

// The last place before `end` that is not zero, plus one; 0 if there is none.
std::size_t EndOfNonzero(const std::vector<std::uint64_t>& column,
                         std::size_t end) {
  const std::uint64_t* c = column.data();
  for (; end >= 8; end -= 8) {
    const std::uint64_t* p = c + (end - 8);
    if ((p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7]) != 0) break;
  }
  while (end > 0 && c[end - 1] == 0) --end;
  return end;
}

std::size_t SparseBodySize(std::size_t delta_bytes, std::size_t count_bytes) {
  if (delta_bytes == 0) return 0;
  return BytesFieldSize(wire::sparse::kIndexDelta, delta_bytes) +
         BytesFieldSize(wire::sparse::kCount, count_bytes);
}

std::size_t SparseFieldSize(std::uint32_t number,
                            const std::vector<std::uint64_t>& column) {
  std::size_t delta_bytes = 0;
  std::size_t count_bytes = 0;
  std::size_t before = 0;
  for (std::size_t i = NextNonzero(column, 0); i < column.size();
       i = NextNonzero(column, i + 1)) {
    delta_bytes += VarintSize(i - before);
    count_bytes += VarintSize(column[i]);
    before = i;
  }
  if (delta_bytes == 0) return 0;
  return BytesFieldSize(number, SparseBodySize(delta_bytes, count_bytes));
}

void WriteSparse(std::uint32_t number, const std::vector<std::uint64_t>& column,
                 BackwardWriter* out) {
  const std::size_t last_end = EndOfNonzero(column, column.size());
  if (last_end == 0) return;
  const char* const message_end = out->at();
  for (std::size_t end = last_end; end > 0;
       end = EndOfNonzero(column, end - 1)) {
    out->Varint(column[end - 1]);
  }
  out->CloseField(wire::sparse::kCount, message_end);
  const char* const deltas_end = out->at();
  for (std::size_t end = last_end; end > 0;) {
    const std::size_t before = EndOfNonzero(column, end - 1);
    out->Varint(before == 0 ? end - 1 : end - before);
    end = before;
  }
  out->CloseField(wire::sparse::kIndexDelta, deltas_end);
  out->CloseField(number, message_end);
}

bool AnyAbsent(const RoleColumns& columns) {
  return std::find_if(columns.absent.begin(), columns.absent.end(),
                      [](std::uint8_t a) { return a != 0; }) !=
         columns.absent.end();
}

std::size_t ColumnsBodySize(const RoleColumns& columns) {
  namespace field = wire::columns;
  const std::size_t n = columns.size();
  std::size_t size =
      VarintFieldSize(field::kRole, static_cast<std::uint64_t>(columns.role)) +
      VarintFieldSize(field::kSize, n);
  if (AnyAbsent(columns)) size += BytesFieldSize(field::kAbsent, (n + 7) / 8);
  if (n != 0) {  // Five tags of one byte each.
    size += 5 * BytesFieldSize(field::kMean, n * sizeof(float));
  }
  return size + SparseFieldSize(field::kZero, columns.zero) +
         SparseFieldSize(field::kNan, columns.nan) +
         SparseFieldSize(field::kPosInf, columns.pos_inf) +
         SparseFieldSize(field::kNegInf, columns.neg_inf);
}

void WriteFloats(std::uint32_t number, const std::vector<float>& column,
                 BackwardWriter* out) {
  if (column.empty()) return;
  out->BytesField(number, column.data(), column.size() * sizeof(float));
}

void WriteAbsent(const RoleColumns& columns, BackwardWriter* out) {
  if (!AnyAbsent(columns)) return;
  const std::size_t n = columns.size();
  const char* const end = out->at();
  for (std::size_t byte = (n + 7) / 8; byte > 0; --byte) {
    unsigned bits = 0;
    for (std::size_t i = (byte - 1) * 8; i < std::min(byte * 8, n); ++i) {
      if (columns.absent[i] != 0) bits |= 1u << (i % 8);
    }
    out->Byte(static_cast<unsigned char>(bits));
  }
  out->CloseField(wire::columns::kAbsent, end);
}

void WriteColumns(const RoleColumns& columns, BackwardWriter* out) {
  namespace field = wire::columns;
  const char* const end = out->at();
  WriteSparse(field::kNegInf, columns.neg_inf, out);
  WriteSparse(field::kPosInf, columns.pos_inf, out);
  WriteSparse(field::kNan, columns.nan, out);
  WriteSparse(field::kZero, columns.zero, out);
  WriteFloats(field::kMax, columns.max, out);
  WriteFloats(field::kMin, columns.min, out);
  WriteFloats(field::kAbsMean, columns.abs_mean, out);
  WriteFloats(field::kStd, columns.std, out);
  WriteFloats(field::kMean, columns.mean, out);
  WriteAbsent(columns, out);
  out->VarintField(field::kSize, columns.size());
  out->VarintField(field::kRole, static_cast<std::uint64_t>(columns.role));
  out->CloseField(wire::step::kRoles, end);
}

std::uint64_t BitsOf(double value) {
  return std::bit_cast<std::uint64_t>(value);
}

std::size_t ScalarBodySize(const ScalarValue& scalar) {
  return BytesFieldSize(wire::scalar::kName, scalar.name.size()) +
         (BitsOf(scalar.value) == 0 ? 0 : 1 + sizeof(double));
}

void WriteScalar(const ScalarValue& scalar, BackwardWriter* out) {
  const char* const end = out->at();
  out->Fixed64Field(wire::scalar::kValue, BitsOf(scalar.value));
  out->BytesField(wire::scalar::kName, scalar.name.data(), scalar.name.size());
  out->CloseField(wire::step::kScalars, end);
}

std::size_t BinsBodySize(const HistogramData& histogram) {
  std::size_t delta_bytes = 0;
  std::size_t count_bytes = 0;
  for (std::size_t i = 0; i < histogram.bin.size(); ++i) {
    delta_bytes +=
        VarintSize(histogram.bin[i] - (i == 0 ? 0 : histogram.bin[i - 1]));
    count_bytes += VarintSize(histogram.count[i]);
  }
  return SparseBodySize(delta_bytes, count_bytes);
}

std::size_t HistogramBodySize(const HistogramData& histogram) {
  namespace field = wire::histogram;
  return VarintFieldSize(field::kRole,
                         static_cast<std::uint64_t>(histogram.role)) +
         VarintFieldSize(field::kPlace, histogram.place) +
         BytesFieldSize(field::kBins, BinsBodySize(histogram));
}

void WriteHistogram(const HistogramData& histogram, BackwardWriter* out) {
  namespace field = wire::histogram;
  const char* const end = out->at();
  if (!histogram.bin.empty()) {
    for (std::size_t i = histogram.bin.size(); i > 0; --i) {
      out->Varint(histogram.count[i - 1]);
    }
    out->CloseField(wire::sparse::kCount, end);
    const char* const deltas_end = out->at();
    for (std::size_t i = histogram.bin.size(); i > 0; --i) {
      out->Varint(histogram.bin[i - 1] - (i == 1 ? 0 : histogram.bin[i - 2]));
    }
    out->CloseField(wire::sparse::kIndexDelta, deltas_end);
  }
  out->CloseField(field::kBins, end);
  out->VarintField(field::kPlace, histogram.place);
  out->VarintField(field::kRole, static_cast<std::uint64_t>(histogram.role));
  out->CloseField(wire::step::kHistograms, end);
}

std::size_t StepBodySize(const StepData& step) {
  namespace field = wire::step;
  std::size_t size =
      VarintFieldSize(field::kStep, static_cast<std::uint64_t>(step.step)) +
      (step.wall_time_unix_ns == 0 ? 0 : 1 + sizeof(std::int64_t)) +
      VarintFieldSize(field::kSchemaId, step.schema_id) +
      VarintFieldSize(field::kIntervalSteps, step.interval_steps) +
      VarintFieldSize(field::kSkipped,
                      static_cast<std::uint64_t>(step.skipped)) +
      (step.skipped_detail.empty()
           ? 0
           : BytesFieldSize(field::kSkippedDetail, step.skipped_detail.size()));
  for (const RoleColumns& columns : step.roles) {
    size += BytesFieldSize(field::kRoles, ColumnsBodySize(columns));
  }
  for (const ScalarValue& scalar : step.scalars) {
    size += BytesFieldSize(field::kScalars, ScalarBodySize(scalar));
  }
  for (const HistogramData& histogram : step.histograms) {
    size += BytesFieldSize(field::kHistograms, HistogramBodySize(histogram));
  }
  return size;
}

}  // namespace

std::size_t EncodedStepSize(const StepData& step) {
  return BytesFieldSize(wire::record::kStep, StepBodySize(step));
}

void EncodeStep(const StepData& step, std::span<char> out) {
  namespace field = wire::step;
  BackwardWriter writer(out.data() + out.size());
  const char* const end = writer.at();
  if (!step.skipped_detail.empty()) {
    writer.BytesField(field::kSkippedDetail, step.skipped_detail.data(),
                      step.skipped_detail.size());
  }
  writer.VarintField(field::kSkipped, static_cast<std::uint64_t>(step.skipped));
  for (std::size_t i = step.histograms.size(); i > 0; --i) {
    WriteHistogram(step.histograms[i - 1], &writer);
  }
  for (std::size_t i = step.scalars.size(); i > 0; --i) {
    WriteScalar(step.scalars[i - 1], &writer);
  }
  for (std::size_t i = step.roles.size(); i > 0; --i) {
    WriteColumns(step.roles[i - 1], &writer);
  }
  writer.VarintField(field::kIntervalSteps, step.interval_steps);
  writer.VarintField(field::kSchemaId, step.schema_id);
  writer.Fixed64Field(field::kWallTime,
                      static_cast<std::uint64_t>(step.wall_time_unix_ns));
  writer.VarintField(field::kStep, static_cast<std::uint64_t>(step.step));
  writer.CloseField(wire::record::kStep, end);
}

}  // namespace gradtap

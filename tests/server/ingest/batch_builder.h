// Batches as an agent makes them.

#ifndef GRADTAP_TESTS_SERVER_INGEST_BATCH_BUILDER_H_
#define GRADTAP_TESTS_SERVER_INGEST_BATCH_BUILDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/codec.h"
#include "server/store/store_testing.h"

namespace gradtap::server::testing {

struct BuiltBatch {
  std::uint64_t first_seq = 1;
  std::uint32_t record_count = 0;
  std::string frame;
};

inline BuiltBatch MakeBatch(std::uint64_t first_seq,
                            const std::vector<std::string>& records) {
  std::string list;
  for (const std::string& record : records) AppendToRecordList(record, &list);
  return {first_seq, static_cast<std::uint32_t>(records.size()),
          CompressFrame(list)};
}

inline std::string SchemaRecord(std::uint32_t id = 1, std::size_t n = 2) {
  return EncodeSchema(MakeSchema(id, n));
}
inline std::string StepRecord(std::int64_t step, std::size_t n = 2,
                              std::uint32_t schema_id = 1) {
  return EncodedStep(MakeStep(step, n, schema_id));
}
inline std::string SkippedRecord(std::int64_t step, GapCause cause) {
  StepData data;
  data.step = step;
  data.skipped = cause;
  data.scalars = {{"loss", 0.5}};
  return EncodedStep(data);
}
inline std::string GapRecord(std::int64_t first, std::int64_t last,
                             GapCause cause = GapCause::kRingFull) {
  return EncodeGap(
      {cause, first, last, static_cast<std::uint64_t>(last - first + 1), ""});
}
inline std::string EndRecord() {
  return EncodeEnd({EndReason::kFinished, 1, 1, 1, 0, 0});
}

// `record` cut into parts of at most `bytes`.
inline std::vector<std::string> PartsOf(std::string_view record,
                                        std::size_t bytes) {
  std::vector<std::string> parts;
  const auto count =
      static_cast<std::uint32_t>((record.size() + bytes - 1) / bytes);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string_view data = record.substr(i * bytes, bytes);
    parts.push_back(EncodePartHead(i, count, data.size()).append(data));
  }
  return parts;
}

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_INGEST_BATCH_BUILDER_H_

// Everything but schemas and steps, from bytes that nobody has checked.

#include <limits>

#include "core/codec.h"
#include "core/codec_check.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using codec::FitsUint32;
using codec::Malformed;
using wire::Reader;
using wire::Type;

std::int64_t Signed(std::uint64_t value) {
  return static_cast<std::int64_t>(value);
}

}  // namespace

absl::StatusOr<std::vector<std::string_view>> SplitRecordList(
    std::string_view list) {
  std::vector<std::string_view> records;
  Reader reader(list);
  while (reader.Next()) {
    if (reader.Is(wire::record_list::kRecords, Type::kBytes)) {
      records.push_back(reader.bytes());
    }
  }
  if (!reader.ok()) return Malformed("RecordList", reader.error());
  return records;
}

absl::StatusOr<RecordView> ParseRecord(std::string_view record) {
  RecordView view;
  Reader reader(record);
  while (reader.Next()) {
    if (reader.type() != Type::kBytes ||
        reader.number() < wire::record::kSchema ||
        reader.number() > wire::record::kPart) {
      continue;
    }
    if (view.kind != RecordKind::kUnknown) {
      return Malformed("Record", "holds more than one kind");
    }
    view.kind = static_cast<RecordKind>(reader.number());
    view.body = reader.bytes();
  }
  if (!reader.ok()) return Malformed("Record", reader.error());
  return view;
}

absl::StatusOr<GapData> DecodeGap(std::string_view body) {
  namespace field = wire::gap;
  GapData gap;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kCause, Type::kVarint)) {
      gap.cause = codec::GapCauseOf(reader.value());
    } else if (reader.Is(field::kFirstStep, Type::kVarint)) {
      gap.first_step = Signed(reader.value());
    } else if (reader.Is(field::kLastStep, Type::kVarint)) {
      gap.last_step = Signed(reader.value());
    } else if (reader.Is(field::kSteps, Type::kVarint)) {
      gap.steps = reader.value();
    } else if (reader.Is(field::kDetail, Type::kBytes)) {
      const std::string_view error = codec::TextError(reader.bytes());
      if (!error.empty()) return Malformed("Gap: detail", error);
      gap.detail = std::string(reader.bytes());
    }
  }
  if (!reader.ok()) return Malformed("Gap", reader.error());
  if (gap.last_step < gap.first_step) {
    return Malformed("Gap",
                     absl::StrCat("ends at step ", gap.last_step,
                                  ", before it begins at ", gap.first_step));
  }
  // One less than the length of the range, which may be 2^64.
  const std::uint64_t distance = static_cast<std::uint64_t>(gap.last_step) -
                                 static_cast<std::uint64_t>(gap.first_step);
  if (gap.steps == 0 || gap.steps - 1 > distance) {
    return Malformed("Gap",
                     absl::StrCat("has ", gap.steps, " steps in the range ",
                                  gap.first_step, " to ", gap.last_step));
  }
  return gap;
}

absl::StatusOr<RollbackData> DecodeRollback(std::string_view body) {
  namespace field = wire::rollback;
  RollbackData rollback;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kStep, Type::kVarint)) {
      rollback.step = Signed(reader.value());
    } else if (reader.Is(field::kBranch, Type::kVarint)) {
      if (!FitsUint32(reader.value())) {
        return Malformed("Rollback", "its branch exceeds 32 bits");
      }
      rollback.branch = static_cast<std::uint32_t>(reader.value());
    }
  }
  if (!reader.ok()) return Malformed("Rollback", reader.error());
  if (rollback.branch == 0) {
    return Malformed("Rollback", "its branch is 0, with which streams begin");
  }
  return rollback;
}

absl::StatusOr<EndData> DecodeEnd(std::string_view body) {
  namespace field = wire::end;
  EndData end;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kReason, Type::kVarint)) {
      end.reason =
          reader.value() <= static_cast<std::uint64_t>(EndReason::kStopped)
              ? static_cast<EndReason>(reader.value())
              : EndReason::kUnspecified;
    } else if (reader.Is(field::kWallTime, Type::kFixed64)) {
      end.wall_time_unix_ns = Signed(reader.value());
    } else if (reader.Is(field::kStepsSeen, Type::kVarint)) {
      end.steps_seen = reader.value();
    } else if (reader.Is(field::kStepsRecorded, Type::kVarint)) {
      end.steps_recorded = reader.value();
    } else if (reader.Is(field::kStepsSkipped, Type::kVarint)) {
      end.steps_skipped = reader.value();
    } else if (reader.Is(field::kStepsLost, Type::kVarint)) {
      end.steps_lost = reader.value();
    }
  }
  if (!reader.ok()) return Malformed("End", reader.error());
  return end;
}

absl::StatusOr<PartView> DecodePart(std::string_view body) {
  namespace field = wire::part;
  PartView part;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kIndex, Type::kVarint) ||
        reader.Is(field::kCount, Type::kVarint)) {
      if (!FitsUint32(reader.value())) {
        return Malformed("Part", "its index or count exceeds 32 bits");
      }
      (reader.number() == field::kIndex ? part.index : part.count) =
          static_cast<std::uint32_t>(reader.value());
    } else if (reader.Is(field::kData, Type::kBytes)) {
      part.data = reader.bytes();
    }
  }
  if (!reader.ok()) return Malformed("Part", reader.error());
  if (part.index >= part.count) {
    return Malformed("Part", absl::StrCat("has index ", part.index, " of ",
                                          part.count, " parts"));
  }
  if (part.data.empty() || part.data.size() > kMaxPartBytes) {
    return Malformed("Part",
                     absl::StrCat("holds ", part.data.size(), " bytes; 1 to ",
                                  kMaxPartBytes, " are allowed"));
  }
  return part;
}

}  // namespace gradtap

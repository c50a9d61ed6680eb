// Records as agents send them, and the frames around them (core/codec.h).

#include <random>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "core/wire.h"
#include "fuzz/fuzz.h"

namespace gradtap::fuzz {
namespace {

// Few, so that an input can have more.
constexpr std::size_t kMaxParameters = 20;

void Check(const absl::Status& status) {
  Require(status.ok() || status.code() == absl::StatusCode::kInvalidArgument ||
              status.code() == absl::StatusCode::kResourceExhausted,
          "what is malformed is kInvalidArgument");
}

void TryStep(std::string_view body) {
  const auto step = StepView::Parse(body);
  Check(step.status());
  if (!step.ok()) return;
  const StepData data = ToStepData(*step);
  const std::string again = testing::Encoded(data);
  Require(again.size() == EncodedStepSize(data), "a step's size is told");
  const auto record = ParseRecord(again);
  const auto reparsed = StepView::Parse(record->body);
  Require(reparsed.ok() && testing::SameStep(ToStepData(*reparsed), data),
          "what was accepted can be written, and reads the same");
  const SplitStep split = SplitHistograms(body, *step);
  Require(StepView::Parse(split.row).ok(), "a row without histograms is one");
  for (const HistogramBlock& block : split.blocks) {
    Require(DecodeHistogramBlock(block.body).ok(), "a block is one");
  }
}

void TryRecord(std::string_view bytes) {
  const auto record = ParseRecord(bytes);
  Check(record.status());
  if (!record.ok()) return;
  switch (record->kind) {
    case RecordKind::kSchema: {
      const auto schema = DecodeSchema(record->body, kMaxParameters);
      Check(schema.status());
      if (schema.ok()) {
        Require(DecodeSchema(ParseRecord(EncodeSchema(*schema))->body).ok(),
                "a schema that was accepted can be written");
      }
      return;
    }
    case RecordKind::kStep:
      return TryStep(record->body);
    case RecordKind::kGap:
      return Check(DecodeGap(record->body).status());
    case RecordKind::kRollback:
      return Check(DecodeRollback(record->body).status());
    case RecordKind::kEnd:
      return Check(DecodeEnd(record->body).status());
    case RecordKind::kPart:
      return Check(DecodePart(record->body).status());
    case RecordKind::kUnknown:
      return;
  }
}

}  // namespace

void Try(std::string_view input) {
  TryRecord(input);
  const auto list = SplitRecordList(input);
  Check(list.status());
  if (list.ok()) {
    for (const std::string_view record : *list) TryRecord(record);
  }
  Check(DecompressFrame(input, 1 << 16).status());
  Check(DecodeHistogramBlock(input).status());
  Check(FindInHistogramBlock(input, 1).status());
}

namespace {

// Each breaks one rule that a change of bytes hardly comes to.
void AddRuleBreakers(std::vector<std::string>* seeds) {
  std::mt19937_64 random(2);
  StepData step;
  step.roles.push_back(testing::SampleColumns(Role::kGrad, 2, random));
  StepData skipped = step;
  skipped.skipped = GapCause::kLoop;
  StepData scalars = step;
  scalars.scalars = {{"loss", 1}, {"loss", 2}};
  StepData many;
  for (int i = 0; i < 1025; ++i) many.scalars.push_back({std::to_string(i), 1});
  StepData histograms = step;
  HistogramData histogram;
  histogram.role = Role::kGrad;
  histogram.bin = {9, 10};
  histogram.count = {1, 1000};
  histograms.histograms = {histogram, histogram};
  for (const StepData& one : {skipped, scalars, many, histograms}) {
    seeds->push_back(testing::Encoded(one));
  }
  std::string block;
  for (int i = 0; i < 257; ++i) {
    wire::AppendBytesField(wire::step::kHistograms, "", &block);
  }
  seeds->push_back(block);

  Schema schema = testing::SampleSchema();
  const Parameter first = schema.parameters[0];
  schema.parameters.push_back(first);
  seeds->push_back(EncodeSchema(schema));
  schema.parameters.resize(kMaxParameters + 1);
  seeds->push_back(EncodeSchema(schema));
  schema.parameters = {first};
  schema.optimizers.assign(65, "Adam");
  seeds->push_back(EncodeSchema(schema));
  schema.parameters[0].aliases.assign(4 * kMaxParameters + 1, "a");
  seeds->push_back(EncodeSchema(schema));
  schema.parameters[0].shape.assign(16 * kMaxParameters + 1, 1);
  schema.parameters[0].aliases.clear();
  seeds->push_back(EncodeSchema(schema));
}

}  // namespace

std::vector<std::string> Seeds() {
  std::mt19937_64 random(1);
  std::vector<std::string> seeds = {
      EncodeSchema(testing::SampleSchema()),
      testing::Encoded(testing::SampleStep(random)),
      EncodeGap({}),
      EncodeRollback({}),
      EncodeEnd({}),
      EncodePartHead(0, 2, 3) + "abc"};
  std::string list;
  for (const std::string& record : seeds) AppendToRecordList(record, &list);
  seeds.push_back(list);
  seeds.push_back(CompressFrame(list));
  seeds.push_back(StoreFrame(list));
  AddRuleBreakers(&seeds);
  return seeds;
}

}  // namespace gradtap::fuzz

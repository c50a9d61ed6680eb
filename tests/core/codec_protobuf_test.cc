// The codec against protobuf's own parser and serializer, both ways.

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <random>
#include <string>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "gradtap/v1/record.pb.h"
#include "gradtap/v1/telemetry.pb.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::Encoded;
using ::gradtap::testing::SameStep;
using ::gradtap::testing::SampleStep;

// ---- The messages that the plain data stand for, by protobuf's means. ----

template <typename Column>
void FillSparse(const Column& column, v1::SparseCounts* out) {
  std::size_t before = 0;
  for (std::size_t i = 0; i < column.size(); ++i) {
    if (column[i] == 0) continue;
    out->add_index_delta(static_cast<std::uint32_t>(i - before));
    out->add_count(column[i]);
    before = i;
  }
}

bool AnyOf(const std::vector<std::uint64_t>& column) {
  for (const std::uint64_t count : column) {
    if (count != 0) return true;
  }
  return false;
}

void FillColumns(const RoleColumns& in, v1::RoleColumns* out) {
  out->set_role(static_cast<v1::Role>(in.role));
  out->set_size(static_cast<std::uint32_t>(in.size()));
  std::string bitmap((in.size() + 7) / 8, '\0');
  bool any_absent = false;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in.absent[i] == 0) continue;
    any_absent = true;
    bitmap[i / 8] = static_cast<char>(bitmap[i / 8] | (1 << (i % 8)));
  }
  if (any_absent) out->set_absent(bitmap);
  out->mutable_mean()->Add(in.mean.begin(), in.mean.end());
  out->mutable_std()->Add(in.std.begin(), in.std.end());
  out->mutable_abs_mean()->Add(in.abs_mean.begin(), in.abs_mean.end());
  out->mutable_min()->Add(in.min.begin(), in.min.end());
  out->mutable_max()->Add(in.max.begin(), in.max.end());
  if (AnyOf(in.zero)) FillSparse(in.zero, out->mutable_zero());
  if (AnyOf(in.nan)) FillSparse(in.nan, out->mutable_nan());
  if (AnyOf(in.pos_inf)) FillSparse(in.pos_inf, out->mutable_pos_inf());
  if (AnyOf(in.neg_inf)) FillSparse(in.neg_inf, out->mutable_neg_inf());
}

v1::Record MessageOf(const StepData& in) {
  v1::Record record;
  v1::Step* out = record.mutable_step();
  out->set_step(in.step);
  out->set_wall_time_unix_ns(in.wall_time_unix_ns);
  out->set_schema_id(in.schema_id);
  out->set_interval_steps(in.interval_steps);
  out->set_skipped(static_cast<v1::GapCause>(in.skipped));
  out->set_skipped_detail(in.skipped_detail);
  for (const RoleColumns& columns : in.roles) {
    FillColumns(columns, out->add_roles());
  }
  for (const ScalarValue& scalar : in.scalars) {
    v1::Scalar* one = out->add_scalars();
    one->set_name(scalar.name);
    one->set_value(scalar.value);
  }
  for (const HistogramData& histogram : in.histograms) {
    v1::Histogram* one = out->add_histograms();
    one->set_role(static_cast<v1::Role>(histogram.role));
    one->set_place(histogram.place);
    v1::SparseCounts* bins = one->mutable_bins();
    for (std::size_t i = 0; i < histogram.bin.size(); ++i) {
      bins->add_index_delta(histogram.bin[i] -
                            (i == 0 ? 0 : histogram.bin[i - 1]));
      bins->add_count(histogram.count[i]);
    }
  }
  return record;
}

v1::Record MessageOf(const Schema& in) {
  v1::Record record;
  v1::Schema* out = record.mutable_schema();
  out->set_schema_id(in.schema_id);
  out->set_fingerprint(in.fingerprint);
  for (const Parameter& p : in.parameters) {
    v1::Parameter* one = out->add_parameters();
    one->set_name(p.name);
    one->set_kind(static_cast<v1::Kind>(p.kind));
    one->set_module_path(p.module_path);
    one->set_module_type(p.module_type);
    one->set_dtype(p.dtype);
    one->mutable_shape()->Add(p.shape.begin(), p.shape.end());
    one->set_device(p.device);
    one->set_layout(p.layout);
    one->set_requires_grad(p.requires_grad);
    one->set_numel(p.numel);
    one->set_bytes(p.bytes);
    for (const std::string& alias : p.aliases) one->add_aliases(alias);
    one->set_placement(static_cast<v1::Placement>(p.placement));
    for (const Role role : p.roles) {
      one->add_roles(static_cast<v1::Role>(role));
    }
    one->set_unsupported_reason(p.unsupported_reason);
  }
  for (const std::string& type : in.optimizers) out->add_optimizers(type);
  return record;
}

// Byte for byte what protobuf writes in field order: NaN payloads too, which a
// comparison of messages would miss.
std::string Serialized(const v1::Record& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  EXPECT_TRUE(message.SerializeToCodedStream(&coded));
  coded.Trim();
  return bytes;
}

void ExpectParsesTo(const std::string& bytes, const v1::Record& want) {
  v1::Record got;
  ASSERT_TRUE(got.ParseFromString(bytes));
  google::protobuf::util::MessageDifferencer differ;
  differ.set_float_comparison(
      google::protobuf::util::MessageDifferencer::EXACT);
  std::string difference;
  // NaN is not equal to itself there; the bytes below are compared bit by bit.
  google::protobuf::util::DefaultFieldComparator comparator;
  comparator.set_treat_nan_as_equal(true);
  differ.set_field_comparator(&comparator);
  differ.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differ.Compare(got, want)) << difference;
  EXPECT_EQ(Serialized(got), Serialized(want));
  // Nothing that protobuf did not know.
  EXPECT_TRUE(got.GetReflection()->GetUnknownFields(got).empty());
}

TEST(CodecProtobufTest, OurStepsParseToEqualMessages) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = SampleStep(random);
    ExpectParsesTo(Encoded(step), MessageOf(step));
  }
}

TEST(CodecProtobufTest, ProtobufsStepsParseInStepView) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = SampleStep(random);
    const std::string bytes = Serialized(MessageOf(step));
    const auto record = ParseRecord(bytes);
    GRADTAP_ASSERT_OK(record);
    ASSERT_EQ(record->kind, RecordKind::kStep);
    const auto view = StepView::Parse(record->body);
    GRADTAP_ASSERT_OK(view);
    EXPECT_TRUE(SameStep(ToStepData(*view), step)) << seed;
  }
}

TEST(CodecProtobufTest, TheSizeIsWhatProtobufSays) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = SampleStep(random);
    EXPECT_EQ(EncodedStepSize(step), MessageOf(step).ByteSizeLong()) << seed;
  }
}

TEST(CodecProtobufTest, SchemasGoBothWays) {
  const Schema schema = testing::SampleSchema();
  ExpectParsesTo(EncodeSchema(schema), MessageOf(schema));
  const std::string bytes = Serialized(MessageOf(schema));
  const auto back = DecodeSchema(ParseRecord(bytes)->body);
  GRADTAP_ASSERT_OK(back);
  ASSERT_EQ(back->parameters.size(), schema.parameters.size());
  for (std::size_t i = 0; i < schema.parameters.size(); ++i) {
    EXPECT_TRUE(
        testing::SameParameter(back->parameters[i], schema.parameters[i]));
  }
  EXPECT_EQ(back->fingerprint, schema.fingerprint);
  EXPECT_EQ(back->optimizers, schema.optimizers);
}

TEST(CodecProtobufTest, GapsRollbacksAndEndsGoBothWays) {
  v1::Record gap;
  gap.mutable_gap()->set_cause(v1::GAP_CAUSE_PROCESS_DIED);
  gap.mutable_gap()->set_first_step(-3);
  gap.mutable_gap()->set_last_step(1'000'000'000'000);
  gap.mutable_gap()->set_steps(17);
  gap.mutable_gap()->set_detail("why");
  ExpectParsesTo(
      EncodeGap({GapCause::kProcessDied, -3, 1'000'000'000'000, 17, "why"}),
      gap);
  const std::string gap_bytes = Serialized(gap);
  EXPECT_EQ(DecodeGap(ParseRecord(gap_bytes)->body)->last_step,
            1'000'000'000'000);

  v1::Record rollback;
  rollback.mutable_rollback()->set_step(5);
  rollback.mutable_rollback()->set_branch(2);
  ExpectParsesTo(EncodeRollback({5, 2}), rollback);
  const std::string rollback_bytes = Serialized(rollback);
  EXPECT_EQ(DecodeRollback(ParseRecord(rollback_bytes)->body)->branch, 2u);

  v1::Record end;
  end.mutable_end()->set_reason(v1::End::REASON_STOPPED);
  end.mutable_end()->set_wall_time_unix_ns(-9);
  end.mutable_end()->set_steps_seen(6);
  end.mutable_end()->set_steps_recorded(3);
  end.mutable_end()->set_steps_skipped(2);
  end.mutable_end()->set_steps_lost(1);
  ExpectParsesTo(EncodeEnd({EndReason::kStopped, -9, 6, 3, 2, 1}), end);
  const std::string end_bytes = Serialized(end);
  EXPECT_EQ(DecodeEnd(ParseRecord(end_bytes)->body)->wall_time_unix_ns, -9);
}

TEST(CodecProtobufTest, EmptyKindsOfARecordKeepTheirKind) {
  ExpectParsesTo(EncodeEnd({}), [] {
    v1::Record record;
    record.mutable_end();
    return record;
  }());
}

TEST(CodecProtobufTest, PartsAndListsGoBothWays) {
  const std::string data("\0\xff piece", 8);
  v1::Record part;
  part.mutable_part()->set_index(0);
  part.mutable_part()->set_count(300);
  part.mutable_part()->set_data(data);
  const std::string bytes = EncodePartHead(0, 300, data.size()) + data;
  ExpectParsesTo(bytes, part);

  std::string list;
  AppendToRecordList(bytes, &list);
  AppendToRecordList(EncodeRollback({1, 1}), &list);
  v1::RecordList message;
  ASSERT_TRUE(message.ParseFromString(list));
  ASSERT_EQ(message.records_size(), 2);
  EXPECT_EQ(message.records(0).part().data(), data);
  const std::string serialized = message.SerializeAsString();
  const auto split = SplitRecordList(serialized);
  GRADTAP_ASSERT_OK(split);
  ASSERT_EQ(split->size(), 2u);
  EXPECT_EQ((*split)[0], bytes);
}

// Whatever StepView accepts, protobuf accepts too, with the same content.
TEST(CodecProtobufTest, MutatedStepsAreNeverReadDifferently) {
  int accepted = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    const std::string bytes = Encoded(SampleStep(random));
    for (int round = 0; round < 200; ++round) {
      std::string mutated = bytes;
      mutated[random() % mutated.size()] = static_cast<char>(random());
      const auto record = ParseRecord(mutated);
      if (!record.ok() || record->kind != RecordKind::kStep) continue;
      const auto view = StepView::Parse(record->body);
      if (!view.ok()) continue;
      ++accepted;
      v1::Record message;
      ASSERT_TRUE(message.ParseFromString(mutated));
      const v1::Step& step = message.step();
      EXPECT_EQ(view->step(), step.step());
      EXPECT_EQ(view->wall_time_unix_ns(), step.wall_time_unix_ns());
      EXPECT_EQ(view->schema_id(), step.schema_id());
      ASSERT_EQ(view->columns().size(),
                static_cast<std::size_t>(step.roles_size()));
      for (int i = 0; i < step.roles_size(); ++i) {
        const auto& ours = view->columns()[static_cast<std::size_t>(i)];
        const v1::RoleColumns& theirs = step.roles(i);
        EXPECT_EQ(static_cast<int>(ours.role), theirs.role());
        EXPECT_EQ(ours.size, theirs.size());
        EXPECT_EQ(ours.zero.place.size(),
                  static_cast<std::size_t>(theirs.zero().count_size()));
        for (std::uint32_t p = 0; p < ours.size; ++p) {
          EXPECT_EQ(
              std::bit_cast<std::uint32_t>(ours.Get(p).mean),
              std::bit_cast<std::uint32_t>(theirs.mean(static_cast<int>(p))));
        }
      }
    }
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace gradtap

#include "sessions/recipes.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "core/codec.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::testing {
namespace {

constexpr Role kRoles[] = {Role::kWeight, Role::kGrad, Role::kGradLocal,
                           Role::kUpdate, Role::kBuffer};

Parameter Named(const std::string& name, std::vector<Role> roles) {
  Parameter p;
  p.name = name;
  p.module_path = name.substr(0, name.rfind('.'));
  p.module_type = "Linear";
  p.dtype = "float32";
  p.shape = {8, 4};
  p.device = "cpu";
  p.layout = "strided";
  p.requires_grad = true;
  p.numel = 32;
  p.bytes = 128;
  p.roles = std::move(roles);
  return p;
}

// A parameter of each kind, and one that cannot be recorded.
Schema SmallSchema(std::uint32_t id) {
  Schema schema;
  schema.schema_id = id;
  schema.optimizers = {"torch::optim::AdamW", "Lion"};
  Parameter weight =
      Named("encoder.0.weight",
            {Role::kWeight, Role::kGrad, Role::kGradLocal, Role::kUpdate});
  weight.aliases = {"head.weight"};
  weight.placement = Placement::kSharded;
  schema.parameters.push_back(weight);
  schema.parameters.push_back(
      Named("encoder.\xf0\x9f\x94\xa5.bias", {Role::kWeight, Role::kGrad}));
  Parameter buffer = Named("norm.running_mean", {Role::kBuffer});
  buffer.kind = Kind::kBuffer;
  buffer.requires_grad = false;
  schema.parameters.push_back(buffer);
  Parameter meta = Named("meta.weight", {});
  meta.unsupported_reason = "a meta tensor has no data";
  schema.parameters.push_back(meta);
  if (id > 1) {
    schema.parameters.push_back(Named("grown.weight", {Role::kWeight}));
  }
  schema.fingerprint = FingerprintOf(schema.parameters);
  return schema;
}

// Everything follows from step, role and place.
Record RecordOf(std::int64_t step, Role role, std::size_t place) {
  const auto x = static_cast<double>(step) * 0.37 +
                 static_cast<double>(role) * 0.011 +
                 static_cast<double>(place) * 1.7;
  Record record;
  record.mean = static_cast<float>(std::sqrt(x + 1) - 1);
  record.std = static_cast<float>(1 / (x + 2));
  record.abs_mean = std::abs(record.mean);
  record.min = -static_cast<float>(x) - 1;
  record.max = static_cast<float>(x) * 3.3F + 1;
  record.zero = static_cast<std::uint64_t>(step) % 3;
  return record;
}

StepData StepOf(const Schema& schema, std::int64_t step) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = 1'700'000'000'000'000'000 + step * 50'000'000;
  data.schema_id = schema.schema_id;
  for (const Role role : kRoles) {
    RoleColumns columns;
    columns.role = role;
    std::size_t places = 0;
    for (const Parameter& p : schema.parameters) places += p.HasRole(role);
    if (places == 0) continue;
    columns.Resize(places);
    for (std::size_t place = 0; place < places; ++place) {
      columns.Set(place, RecordOf(step, role, place));
    }
    data.roles.push_back(std::move(columns));
  }
  data.scalars = {{"loss", 1 / (static_cast<double>(step) + 1.5)},
                  {"agent.lr", 0.001},
                  {"agent.capture_seconds", 0.00025}};
  return data;
}

// What is rare: no finite element, infinities, absent gradients, histograms.
StepData StrangeStepOf(const Schema& schema, std::int64_t step) {
  StepData data = StepOf(schema, step);
  data.interval_steps = 2;
  Record none;
  none.nan = 30;
  none.pos_inf = 2;
  data.roles[0].Set(0, none);
  Record some = RecordOf(step, Role::kGrad, 0);
  some.neg_inf = 1;
  some.max = std::numeric_limits<float>::max();
  some.min = -0.0F;
  data.roles[1].Set(0, some);
  data.roles[1].SetAbsent(1);
  data.scalars[0].value = std::numeric_limits<double>::quiet_NaN();
  data.scalars.push_back(
      {"grad-norm", std::numeric_limits<double>::infinity()});
  data.histograms.push_back(
      {Role::kWeight, 1, {0, 4, 142, 398}, {1, 2, 20, 9}});
  data.histograms.push_back({Role::kGrad, 0, {3, 130}, {1, 31}});
  return data;
}

void PlayWhole(RecordedAgent* agent) {
  agent::Recorder& loop = agent->loop();
  Schema schema = SmallSchema(1);
  loop.PutSchema(schema);
  for (std::int64_t step = 0; step < 3; ++step) {
    loop.PutStep(StepOf(schema, step));
  }
  agent->Settle();
  loop.PutStep(StrangeStepOf(schema, 3));
  StepData skipped;
  skipped.step = 4;
  skipped.wall_time_unix_ns = 1'700'000'000'200'000'000;
  skipped.skipped = GapCause::kLoop;
  skipped.skipped_detail = "the loss scaler found an infinity";
  skipped.scalars = {{"loss", 0.25}, {"loss_scale", 65536}};
  loop.PutStep(skipped);
  loop.PutGap(GapCause::kOptimizerThrew, 5, "std::runtime_error");
  loop.PutGap(GapCause::kThinned, 6, "");
  loop.PutGap(GapCause::kThinned, 7, "");
  loop.PutStep(StepOf(schema, 8));
  agent->Settle();
  agent->KeepQuiet();
  loop.Rollback(2);
  loop.PutStep(StepOf(schema, 2));
  schema = SmallSchema(2);
  loop.PutSchema(schema);
  loop.PutStep(StrangeStepOf(schema, 3));
  loop.PutStep(StepOf(schema, 4));
  agent->Settle();
  loop.PutEnd(EndReason::kFinished);
  agent->Settle();
  agent->Leave();
}

// Acknowledged and heard, acknowledged and not heard, never arrived: then the
// next call.
void PlayResume(RecordedAgent* agent) {
  agent::Recorder& loop = agent->loop();
  const Schema schema = SmallSchema(1);
  loop.PutSchema(schema);
  loop.PutStep(StepOf(schema, 0));
  loop.PutStep(StepOf(schema, 1));
  agent->Settle();
  loop.PutStep(StepOf(schema, 2));
  loop.PutGap(GapCause::kInterval, 3, "");
  loop.PutStep(StepOf(schema, 4));
  agent->SettleUnheard();
  loop.PutStep(StepOf(schema, 5));
  loop.PutStep(StrangeStepOf(schema, 6));
  agent->SendInVain();
  agent->Cut();
  agent->Settle();
  loop.PutStep(StepOf(schema, 7));
  loop.PutEnd(EndReason::kStopped);
  agent->Settle();
  agent->Leave();
}

// A schema that travels in three parts, of which two do not fit in a batch; the
// connection is lost after the first.
void PlayParts(RecordedAgent* agent) {
  Schema schema;
  schema.schema_id = 1;
  for (int i = 0; i < 1'500; ++i) {
    Parameter p = Named("layer" + std::to_string(i) + ".weight", {Role::kGrad});
    p.module_type = std::string(400, 'M');
    p.module_path = std::string(400, 'p');
    schema.parameters.push_back(p);
  }
  schema.fingerprint = FingerprintOf(schema.parameters);
  StepData step = StepOf(schema, 0);
  for (std::size_t i = 0; i < 1'500; ++i) {
    step.roles[0].Set(i, RecordOf(0, Role::kGrad, i % 3));
  }
  agent->loop().PutSchema(schema);
  agent->loop().PutStep(step);
  agent->SendInVain(1);
  agent->Cut();
  agent->Settle();
  step.step = 1;
  agent->loop().PutStep(step);
  agent->loop().PutEnd(EndReason::kFinished);
  agent->Settle();
  agent->Leave();
}

// A record that no collector takes.
void PlayRejected(RecordedAgent* agent) {
  agent::Recorder& loop = agent->loop();
  const Schema schema = SmallSchema(1);
  loop.PutSchema(schema);
  loop.PutStep(StepOf(schema, 0));
  StepData crowded = StepOf(schema, 1);
  for (int i = 0; i < 1'025; ++i) {
    crowded.scalars.push_back({"s" + std::to_string(i), 1});
  }
  loop.PutStep(crowded);
  loop.PutStep(StepOf(schema, 2));
  agent->Settle();
  loop.PutStep(StepOf(schema, 3));  // And a gap that tells of step 1.
  loop.PutEnd(EndReason::kFinished);
  agent->Settle();
  agent->Leave();
}

void PlayRefused(RecordedAgent* agent) {
  const Schema schema = SmallSchema(1);
  agent->loop().PutSchema(schema);
  agent->loop().PutStep(StepOf(schema, 0));
  agent->AwaitRefusal();
}

}  // namespace

const std::vector<Recipe>& Recipes() {
  static const std::vector<Recipe> recipes = {
      {"whole", "whole", PlayWhole},
      {"resume", "resume", PlayResume},
      {"parts", "parts", PlayParts},
      {"rejected", "rejected", PlayRejected},
      {"refused", "not/a run", PlayRefused}};
  return recipes;
}

}  // namespace gradtap::testing

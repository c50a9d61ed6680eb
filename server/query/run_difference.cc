#include "server/query/run_difference.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace gradtap::server {
namespace {

using Text = std::optional<std::string>;

v1::Difference MakeDifference(std::string_view parameter, std::string_view what,
                              const Text& good, const Text& other) {
  v1::Difference difference;
  difference.set_parameter(std::string(parameter));
  difference.set_what(std::string(what));
  if (good.has_value()) difference.set_good(*good);
  if (other.has_value()) difference.set_other(*other);
  return difference;
}

void AddIfDiffers(std::string_view what, const Text& good, const Text& other,
                  v1::CompareRunsResponse* response) {
  if (good == other) return;
  *response->add_differences() = MakeDifference("", what, good, other);
}

// The newest attempt that the side is about.
const Attempt* AttemptOf(const RunSide& side) {
  if (side.attempt != 0) return side.run->FindAttempt(side.attempt);
  return side.run->attempts.empty() ? nullptr : &side.run->attempts.back();
}

// The newest of the lowest rank; its streams are in the order of their start.
const StreamEntry* StreamOf(const RunSide& side) {
  const Attempt* attempt = AttemptOf(side);
  const StreamEntry* newest = nullptr;
  if (attempt == nullptr || side.ranks.empty()) return newest;
  for (const StreamEntry* stream : attempt->streams) {
    if (stream->hello.rank == side.ranks.front()) newest = stream;
  }
  return newest;
}

std::map<std::string, std::string> TagsOf(const RunSide& side) {
  std::map<std::string, std::string> tags;
  const Attempt* attempt = AttemptOf(side);
  if (attempt == nullptr) return tags;
  for (const StreamEntry* stream : attempt->streams) {
    for (const auto& [key, value] : stream->hello.tags) tags[key] = value;
  }
  return tags;
}

Text Find(const std::map<std::string, std::string>& tags,
          const std::string& key) {
  const auto it = tags.find(key);
  return it == tags.end() ? Text() : Text(it->second);
}

std::string ShapeText(const Parameter& parameter) {
  std::string text = "[";
  for (const std::int64_t size : parameter.shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) {
    if (!joined.empty()) joined += ", ";
    joined += text;
  }
  return joined;
}

std::string AliasText(const Parameter& parameter) {
  return Joined(parameter.aliases);
}

std::string_view PlacementText(const Parameter& parameter) {
  return parameter.placement == Placement::kSharded ? "sharded" : "replicated";
}

std::string_view KindText(const Parameter& parameter) {
  return parameter.kind == Kind::kBuffer ? "buffer" : "parameter";
}

// "float32 [64, 3]".
std::string Summary(const Parameter& parameter) {
  return parameter.dtype + " " + ShapeText(parameter);
}

struct Property {
  std::string_view what;
  std::string (*text)(const Parameter& parameter);
};

constexpr Property kProperties[] = {
    {"kind", [](const Parameter& p) { return std::string(KindText(p)); }},
    {"shape", ShapeText},
    {"dtype", [](const Parameter& p) { return p.dtype; }},
    {"placement",
     [](const Parameter& p) { return std::string(PlacementText(p)); }},
    {"requires_grad",
     [](const Parameter& p) {
       return std::string(p.requires_grad ? "true" : "false");
     }},
    {"device", [](const Parameter& p) { return p.device; }},
    {"layout", [](const Parameter& p) { return p.layout; }},
    {"aliases", AliasText},
    {"unsupported_reason",
     [](const Parameter& p) { return p.unsupported_reason; }},
};

// The parameters of a side by name, in the order in which they are found.
struct Table {
  std::vector<std::shared_ptr<const SchemaIndex>> indexes;  // Kept alive.
  std::vector<const Parameter*> parameters;
  std::unordered_map<std::string_view, const Parameter*> by_name;

  const Parameter* Find(std::string_view name) const {
    const auto it = by_name.find(name);
    return it == by_name.end() ? nullptr : it->second;
  }
};

absl::StatusOr<Table> TableOf(const RunSide& side, const NameFilter& match,
                              SchemaCache* schemas) {
  Table table;
  for (const std::uint32_t rank : side.ranks) {
    const SchemaSource source = NewestSchema(*side.run, rank, side.attempt);
    if (source.stream == nullptr) continue;
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas->Get(source.stream->id, source.stream->schema_id);
    if (!index.ok()) return index.status();
    table.indexes.push_back(*index);
    for (const Parameter& parameter : (*index)->schema().parameters) {
      if (!match.Matches(parameter.name)) continue;
      if (table.by_name.emplace(parameter.name, &parameter).second) {
        table.parameters.push_back(&parameter);
      }
    }
  }
  return table;
}

void AddOfParameter(v1::Difference difference,
                    v1::CompareRunsResponse* response) {
  const std::uint64_t count = response->parameter_differences();
  response->set_parameter_differences(count + 1);
  if (count >= kMaxListedDifferences) return;
  *response->add_differences() = std::move(difference);
}

}  // namespace

void AddRunDifferences(const RunSide& good, const RunSide& other,
                       v1::CompareRunsResponse* response) {
  const std::map<std::string, std::string> good_tags = TagsOf(good);
  const std::map<std::string, std::string> other_tags = TagsOf(other);
  std::map<std::string, std::string> all = good_tags;
  all.insert(other_tags.begin(), other_tags.end());
  for (const auto& [key, unused] : all) {
    AddIfDiffers("tag." + key, Find(good_tags, key), Find(other_tags, key),
                 response);
  }
  const StreamEntry* mine = StreamOf(good);
  const StreamEntry* theirs = StreamOf(other);
  if (mine == nullptr || theirs == nullptr) return;
  const StreamHello& a = mine->hello;
  const StreamHello& b = theirs->hello;
  AddIfDiffers("agent_version", a.agent_version, b.agent_version, response);
  AddIfDiffers("torch_version", a.torch_version, b.torch_version, response);
  AddIfDiffers("host", a.host, b.host, response);
  AddIfDiffers("world_size", std::to_string(a.world_size),
               std::to_string(b.world_size), response);
  // Older agents do not tell: that is no difference.
  if (mine->optimizers.empty() || theirs->optimizers.empty()) return;
  AddIfDiffers("optimizer", Joined(mine->optimizers),
               Joined(theirs->optimizers), response);
}

absl::Status AddParameterDifferences(const RunSide& good, const RunSide& other,
                                     const NameFilter& match,
                                     SchemaCache* schemas,
                                     v1::CompareRunsResponse* response) {
  absl::StatusOr<Table> a = TableOf(good, match, schemas);
  if (!a.ok()) return a.status();
  absl::StatusOr<Table> b = TableOf(other, match, schemas);
  if (!b.ok()) return b.status();
  for (const Parameter* mine : a->parameters) {
    const Parameter* theirs = b->Find(mine->name);
    if (theirs == nullptr) {
      AddOfParameter(
          MakeDifference(mine->name, "parameter", Summary(*mine), {}),
          response);
      continue;
    }
    for (const Property& property : kProperties) {
      const std::string one = property.text(*mine);
      const std::string two = property.text(*theirs);
      if (one == two) continue;
      AddOfParameter(MakeDifference(mine->name, property.what, one, two),
                     response);
    }
  }
  for (const Parameter* theirs : b->parameters) {
    if (a->Find(theirs->name) != nullptr) continue;
    AddOfParameter(
        MakeDifference(theirs->name, "parameter", {}, Summary(*theirs)),
        response);
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server

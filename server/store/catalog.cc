#include "server/store/catalog.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/bytes.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kReading = "data folder: cannot read the catalog";

absl::Status Inconsistent(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the catalog is damaged: ", std::string(what),
                   "; restore the data folder from a copy"));
}

using Runs = std::map<std::uint64_t, RunEntry>;

// Calls `visit` for every key with this prefix.
absl::Status ForEach(
    const Engine& engine, rocksdb::ColumnFamilyHandle* family, char prefix,
    const std::function<absl::Status(std::string_view, std::string_view)>&
        visit) {
  const std::string begin(1, prefix);
  const std::string end = keys::After(begin);
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(
      engine.db()->NewIterator(options, family));
  for (it->Seek(begin); it->Valid(); it->Next()) {
    const absl::Status s = visit(View(it->key()), View(it->value()));
    if (!s.ok()) return s;
  }
  return ToStatus(it->status(), kReading);
}

absl::Status LoadRuns(const Engine& engine, Runs* runs) {
  return ForEach(engine, engine.catalog(), keys::kRun,
                 [&](std::string_view key, std::string_view value) {
                   const auto head = DecodeRunHead(value);
                   if (!head.ok()) return head.status();
                   RunEntry& run = (*runs)[head->run_id];
                   if (!run.run.empty())
                     return Inconsistent("two runs share a number");
                   run.run = std::string(key.substr(1));
                   run.ordinal = head->ordinal;
                   run.created_unix_ns = head->created_unix_ns;
                   run.pinned = head->pinned;
                   return absl::OkStatus();
                 });
}

absl::Status LoadStreams(const Engine& engine, Runs* runs) {
  return ForEach(engine, engine.catalog(), keys::kHead,
                 [&](std::string_view key, std::string_view value) {
                   const auto parsed = keys::ParseStreamKey(keys::kHead, key);
                   if (!parsed.has_value() || !parsed->rest.empty()) {
                     return Inconsistent("a stream's key");
                   }
                   const auto run = runs->find(parsed->run_id);
                   if (run == runs->end())
                     return Inconsistent("a stream without a run");
                   auto hello = DecodeHello(value);
                   if (!hello.ok()) return hello.status();
                   StreamEntry stream;
                   stream.id = parsed->stream;
                   stream.hello = *std::move(hello);
                   if (stream.hello.run != run->second.run) {
                     return Inconsistent("a stream of another run");
                   }
                   run->second.streams.push_back(std::move(stream));
                   return absl::OkStatus();
                 });
}

StreamEntry* Find(Runs* runs, const keys::StreamKey& key) {
  const auto run = runs->find(key.run_id);
  if (run == runs->end()) return nullptr;
  auto& streams = run->second.streams;
  const std::size_t i = IndexOf(run->second, key.stream);
  return i < streams.size() && streams[i].id == key.stream ? &streams[i]
                                                           : nullptr;
}

absl::Status LoadCursors(const Engine& engine, Runs* runs) {
  absl::Status s =
      ForEach(engine, engine.catalog(), keys::kCursor,
              [&](std::string_view key, std::string_view value) {
                const auto parsed = keys::ParseStreamKey(keys::kCursor, key);
                StreamEntry* stream =
                    parsed.has_value() ? Find(runs, *parsed) : nullptr;
                if (stream == nullptr)
                  return Inconsistent("a cursor without a stream");
                return DecodeCursor(value, stream);
              });
  if (!s.ok()) return s;
  for (const auto& [id, run] : *runs) {
    for (const StreamEntry& stream : run.streams) {
      if (stream.branches.empty()) {
        return Inconsistent("a stream without a cursor");
      }
    }
  }
  return ForEach(
      engine, engine.catalog(), keys::kBranch,
      [&](std::string_view key, std::string_view value) {
        const auto parsed = keys::ParseStreamKey(keys::kBranch, key);
        StreamEntry* stream =
            parsed.has_value() ? Find(runs, *parsed) : nullptr;
        if (stream == nullptr) return Inconsistent("a branch without a stream");
        ByteReader reader(parsed->rest);
        const std::uint32_t number = reader.U32();
        if (!reader.ok() || !reader.at_end() ||
            number >= stream->branches.size()) {
          return Inconsistent("a branch that its stream does not have");
        }
        auto branch = DecodeBranch(value);
        if (!branch.ok()) return branch.status();
        branch->branch = number;
        stream->branches[number] = *branch;
        return absl::OkStatus();
      });
}

absl::Status LoadParts(const Engine& engine, Catalog* catalog) {
  return ForEach(engine, engine.index(), keys::kPart,
                 [&](std::string_view key, std::string_view value) {
                   const auto parsed = keys::ParseStreamKey(keys::kPart, key);
                   if (!parsed.has_value()) return Inconsistent("a part's key");
                   ByteReader reader(parsed->rest);
                   const std::uint64_t seq = reader.U64();
                   if (!reader.ok() || !reader.at_end()) {
                     return Inconsistent("a part's key");
                   }
                   catalog->parts[parsed->stream].Add(seq, value.size());
                   return absl::OkStatus();
                 });
}

absl::Status LoadSealed(const Engine& engine, Catalog* catalog) {
  return ForEach(engine, engine.catalog(), keys::kSealed,
                 [&](std::string_view key, std::string_view value) {
                   const auto parsed = keys::ParseStreamKey(keys::kSealed, key);
                   ByteReader reader(parsed.has_value() ? parsed->rest : "");
                   const std::uint32_t branch = reader.U32();
                   if (!reader.ok() || !reader.at_end()) {
                     return Inconsistent("a sealed branch's key");
                   }
                   auto sealed = DecodeSealed(value);
                   if (!sealed.ok()) return sealed.status();
                   catalog->sealed[{parsed->stream, branch}] = *sealed;
                   return absl::OkStatus();
                 });
}

// Of a run that is there: what is left of another one is in nobody's way.
absl::Status CheckSealed(const Catalog& catalog) {
  for (const auto& [key, sealed] : catalog.sealed) {
    const CatalogRun* run = catalog.FindStream(key.first);
    if (run == nullptr) continue;
    const auto& branches =
        run->entry->streams[IndexOf(*run->entry, key.first)].branches;
    if (key.second >= branches.size()) {
      return Inconsistent("a sealed branch that its stream does not have");
    }
    if (sealed.rows > branches[key.second].rows ||
        sealed.windows > sealed.rows ||
        sealed.chapter_windows > sealed.windows) {
      return Inconsistent(absl::StrCat("more is sealed than branch ",
                                       key.second, " of stream ", key.first,
                                       " has"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const CatalogRun* Catalog::FindStream(StreamId stream) const {
  const auto name = run_of.find(stream);
  if (name == run_of.end()) return nullptr;
  const auto run = runs.find(name->second);
  return run == runs.end() ? nullptr : &run->second;
}

std::size_t IndexOf(const RunEntry& run, StreamId stream) {
  const auto at = std::lower_bound(
      run.streams.begin(), run.streams.end(), stream,
      [](const StreamEntry& entry, StreamId id) { return entry.id < id; });
  return static_cast<std::size_t>(at - run.streams.begin());
}

absl::StatusOr<Catalog> LoadCatalog(const Engine& engine) {
  Catalog catalog;
  std::string ids;
  const rocksdb::Status found = engine.db()->Get(
      rocksdb::ReadOptions(), engine.catalog(), keys::Ids(), &ids);
  if (found.ok()) {
    const auto next = DecodeIds(ids);
    if (!next.ok()) return next.status();
    catalog.next = *next;
  } else if (!found.IsNotFound()) {
    return ToStatus(found, kReading);
  }
  Runs runs;
  for (const auto load : {LoadRuns, LoadStreams, LoadCursors}) {
    if (const absl::Status s = load(engine, &runs); !s.ok()) return s;
  }
  for (const auto load : {LoadParts, LoadSealed}) {
    if (const absl::Status s = load(engine, &catalog); !s.ok()) return s;
  }
  for (auto& [id, run] : runs) {
    if (id >= catalog.next.run_id) return Inconsistent("a run from the future");
    for (const StreamEntry& stream : run.streams) {
      if (stream.id >= catalog.next.stream) {
        return Inconsistent("a stream from the future");
      }
      catalog.run_of[stream.id] = run.run;
    }
    const std::string name = run.run;
    catalog.runs[name] = {id, std::make_shared<const RunEntry>(std::move(run))};
  }
  if (const absl::Status s = CheckSealed(catalog); !s.ok()) return s;
  return catalog;
}

}  // namespace gradtap::server

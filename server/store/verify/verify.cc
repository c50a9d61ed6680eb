#include "server/store/verify/verify.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rocksdb/metadata.h"
#include "rocksdb/sst_file_reader.h"
#include "server/store/catalog.h"
#include "server/store/data_folder.h"
#include "server/store/engine.h"
#include "server/store/verify/branch_check.h"
#include "server/store/verify/findings.h"
#include "server/store/verify/index_check.h"
#include "server/store/verify/stray_check.h"

namespace gradtap::server {
namespace {

// The database, opened to be read; null after a report.
std::shared_ptr<Engine> OpenDatabase(const std::string& dir,
                                     Findings* findings) {
  auto engine = Engine::OpenToRead(dir, /*strict=*/true);
  if (engine.ok()) return *std::move(engine);
  // Without what is damaged in the log, as a collector would open it.
  auto rest = Engine::OpenToRead(dir, /*strict=*/false);
  if (!rest.ok()) {
    findings->Report("database", std::string(rest.status().message()));
    return nullptr;
  }
  findings->Report(
      "database",
      absl::StrCat("a log is damaged, and what was written after that place "
                   "is lost (harmless if the power failed while a collector "
                   "ran): ",
                   std::string(engine.status().message())));
  return *std::move(rest);
}

// Every block of every table, by RocksDB's own checksums.
void CheckTables(const Engine& engine, Findings* findings) {
  std::vector<rocksdb::LiveFileMetaData> files;
  engine.db()->GetLiveFilesMetaData(&files);
  for (const rocksdb::LiveFileMetaData& file : files) {
    ++findings->summary.tables;
    findings->summary.bytes += file.size;
    const std::string path = file.db_path + file.name;
    rocksdb::SstFileReader reader{rocksdb::Options()};
    rocksdb::Status status = reader.Open(path);
    if (status.ok()) status = reader.VerifyChecksum();
    if (status.ok()) continue;
    findings->Report(path, absl::StrCat("a table of ", file.column_family_name,
                                        ": ", status.ToString()));
  }
}

void CheckStream(const std::shared_ptr<Engine>& engine, const Catalog& catalog,
                 const CatalogRun& run, const StreamEntry& stream,
                 OrdinalCheck* ordinals, Findings* findings) {
  const std::string place =
      absl::StrCat("run ", run.entry->run, ", rank ", stream.hello.rank,
                   ", stream ", stream.id);
  ++findings->summary.streams;
  const Layouts layouts =
      CheckSchemas(*engine, run.run_id, stream, place, findings);
  const std::vector<GapBounds> gaps =
      CheckGaps(*engine, run.run_id, stream, place, ordinals, findings);
  CheckParts(*engine, run.run_id, stream, place, findings);
  for (const Branch& branch : stream.branches) {
    ++findings->summary.branches;
    const auto sealed = catalog.sealed.find({stream.id, branch.branch});
    BranchCheck check(
        engine, {run.run_id, stream.id, branch.branch}, branch,
        sealed == catalog.sealed.end() ? nullptr : &sealed->second, layouts,
        gaps[branch.branch], absl::StrCat(place, ", branch ", branch.branch),
        ordinals, findings);
    check.Run();
  }
}

}  // namespace

absl::StatusOr<VerifySummary> VerifyFolder(const std::string& dir,
                                           const OnProblem& on_problem) {
  Findings findings(on_problem);
  const auto folder = DataFolder::OpenToRead(dir, &findings.summary.format);
  if (!folder.ok()) return folder.status();
  const std::shared_ptr<Engine> engine =
      OpenDatabase((*folder)->db_dir(), &findings);
  if (engine == nullptr) return findings.summary;
  CheckTables(*engine, &findings);
  const auto catalog = LoadCatalog(*engine);
  if (!catalog.ok()) {
    findings.Report("catalog", std::string(catalog.status().message()));
    return findings.summary;
  }
  for (const auto& [name, run] : catalog->runs) {
    ++findings.summary.runs;
    OrdinalCheck ordinals(*engine, run.run_id, &findings);
    for (const StreamEntry& stream : run.entry->streams) {
      CheckStream(engine, *catalog, run, stream, &ordinals, &findings);
    }
    ordinals.Finish(run.entry->ordinal, absl::StrCat("run ", name));
  }
  CheckStrays(*engine, *catalog, &findings);
  return findings.summary;
}

}  // namespace gradtap::server

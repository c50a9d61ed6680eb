// What is damaged is found, wherever it is; what is not is left as it is.

#include "server/store/verify/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/store/data_folder.h"
#include "server/store/engine.h"
#include "server/store/filled_folder.h"
#include "server/store/keys.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::_;
using testing::Filler;
using testing::FillFolder;
using ::testing::HasSubstr;
using testing::MakeHello;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// One more copy of a filled folder for each test.
class VerifyTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    original_ = std::make_unique<TempDir>();
    FillFolder(original_->path() + "/data");
    // Into tables, but for what is written last.
    const auto engine = Engine::Open(original_->path() + "/data/db", nullptr);
    ASSERT_TRUE(engine.ok());
    for (rocksdb::ColumnFamilyHandle* family : (*engine)->families()) {
      (*engine)->db()->CompactRange({}, family, nullptr, nullptr);
    }
  }
  static void TearDownTestSuite() { original_.reset(); }

  // A fresh copy; the one before is gone.
  void Copy() {
    fs::remove_all(dir_);
    fs::copy(original_->path() + "/data", dir_, fs::copy_options::recursive);
  }

  // Makes the copy one of a store that was killed; returns its log.
  std::string LogOfOneThatWasKilled() {
    const std::string live = temp_.path() + "/killed";
    const auto store = RocksdbStore::Open({live}, nullptr);
    EXPECT_TRUE(store.ok()) << store.status();
    Filler filler(store->get(), MakeHello());
    for (int i = 0; i < 20; ++i) filler.Steps(10 * i, 10 * i + 10);
    fs::remove_all(dir_);
    fs::copy(live, dir_, fs::copy_options::recursive);
    for (const auto& entry : fs::directory_iterator(dir_ + "/db")) {
      if (entry.path().extension() == ".log" && entry.file_size() > 1000) {
        return entry.path().string();
      }
    }
    ADD_FAILURE() << "there is no log";
    return "";
  }

  // Changes the copy's database.
  void Change(const std::function<void(const Engine&)>& change) {
    const auto engine = Engine::Open(dir_ + "/db", nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    change(**engine);
  }

  // Problems of the copy, a line each.
  std::vector<std::string> Verify(VerifySummary* summary = nullptr) {
    std::vector<std::string> problems;
    const auto found = VerifyFolder(
        dir_, [&](const std::string& place, const std::string& what) {
          problems.push_back(place + ": " + what);
        });
    EXPECT_TRUE(found.ok()) << found.status();
    if (found.ok() && summary != nullptr) *summary = *found;
    return problems;
  }

  using Pairs = std::vector<std::pair<std::string, std::string>>;
  // What a family of the original holds.
  static Pairs PairsOf(const std::string& name) {
    Pairs pairs;
    const auto engine =
        Engine::OpenToRead(original_->path() + "/data/db", true);
    EXPECT_TRUE(engine.ok());
    for (rocksdb::ColumnFamilyHandle* family : (*engine)->families()) {
      if (Engine::NameOf(family) != name) continue;
      std::unique_ptr<rocksdb::Iterator> it(
          (*engine)->db()->NewIterator(rocksdb::ReadOptions(), family));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        pairs.emplace_back(it->key().ToString(), it->value().ToString());
      }
    }
    return pairs;
  }
  static rocksdb::ColumnFamilyHandle* FamilyOf(const Engine& engine,
                                               const std::string& name) {
    for (rocksdb::ColumnFamilyHandle* family : engine.families()) {
      if (Engine::NameOf(family) == name) return family;
    }
    return nullptr;
  }
  // A few of them: of each first letter, length and, in part, all others.
  static Pairs Sample(const std::string& name) {
    const Pairs all = PairsOf(name);
    EXPECT_FALSE(all.empty()) << name;
    std::map<std::pair<char, std::size_t>, Pairs> kinds;
    for (const auto& pair : all) {
      kinds[{pair.first[0], pair.first.size()}].push_back(pair);
    }
    Pairs some;
    for (const auto& [kind, pairs] : kinds) {
      some.push_back(pairs[pairs.size() / 3]);
      some.push_back(pairs.back());
    }
    return some;
  }

  TempDir temp_;
  const std::string dir_ = temp_.path() + "/copy";
  static std::unique_ptr<TempDir> original_;
};

std::unique_ptr<TempDir> VerifyTest::original_;

constexpr const char* kFamilies[] = {"catalog", "rows",  "index",  "histograms",
                                     "windows", "tiles", "rollups"};

TEST_F(VerifyTest, AnIntactFolderIsWellAndItsSummaryCounts) {
  Copy();
  VerifySummary summary;
  EXPECT_THAT(Verify(&summary), ::testing::IsEmpty());
  EXPECT_EQ(summary.problems, 0u);
  EXPECT_EQ(summary.format, kFormatVersion);
  EXPECT_EQ(summary.runs, 2u);
  EXPECT_EQ(summary.streams, 3u);
  EXPECT_EQ(summary.branches, 4u);
  EXPECT_EQ(summary.rows + summary.sealed, 5000u + 300u + 700u + 300u);
  EXPECT_EQ(summary.steps, 5000u + 300u + 700u + 300u - 126u);
  EXPECT_EQ(summary.scalars, 6300u);
  EXPECT_GT(summary.rows, 64u);
  EXPECT_GT(summary.values, summary.steps * 9 * 29);
  EXPECT_LT(summary.values, summary.steps * 9 * 30);
  EXPECT_EQ(summary.chapters, 2u);
  EXPECT_EQ(summary.schemas, 3u);
  EXPECT_EQ(summary.gaps, 1u);
  EXPECT_EQ(summary.histograms, 50u + 3u + 7u + 3u);
  EXPECT_GT(summary.tables, 6u);
  EXPECT_EQ(summary.unfinished, 0u);
}

TEST_F(VerifyTest, NothingOfTheFolderIsChanged) {
  Copy();
  const auto files = [&] {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(dir_)) {
      if (entry.is_regular_file()) {
        found[entry.path().string()] = ReadAll(entry.path().string());
      }
    }
    return found;
  };
  const auto before = files();
  Verify();
  EXPECT_TRUE(files() == before);
}

TEST_F(VerifyTest, AKeyThatIsGoneIsFound) {
  for (const std::string name : kFamilies) {
    // Nothing says which steps have histograms, or which pieces of an
    // unfinished record there are.
    if (name == "histograms") continue;
    for (const auto& [key, value] : Sample(name)) {
      if (name == "index" && key[0] == keys::kPart) continue;
      Copy();
      Change([&, k = key](const Engine& engine) {
        engine.db()->Delete({}, FamilyOf(engine, name), k);
      });
      EXPECT_THAT(Verify(), ::testing::Not(::testing::IsEmpty()))
          << name << " " << ::testing::PrintToString(key);
    }
  }
}

TEST_F(VerifyTest, AValueThatIsCutShortIsFound) {
  for (const std::string name : kFamilies) {
    for (const auto& [key, value] : Sample(name)) {
      if (name == "index" && key[0] == keys::kPart) continue;
      Copy();
      Change([&, k = key, v = value](const Engine& engine) {
        engine.db()->Put({}, FamilyOf(engine, name), k,
                         v.substr(0, v.size() / 2));
      });
      EXPECT_THAT(Verify(), ::testing::Not(::testing::IsEmpty()))
          << name << " " << ::testing::PrintToString(key);
    }
  }
}

TEST_F(VerifyTest, AKeyOfNoRunOrNoKindIsFound) {
  for (const std::string name : kFamilies) {
    for (const auto& [key, value] : Sample(name)) {
      const bool lettered =
          name == "catalog" || name == "index" || name == "windows";
      std::string other = key;
      if (lettered) {
        other[0] = 'x';
      } else {
        other[7] = 99;  // Of the run's number.
      }
      Copy();
      Change([&, v = value](const Engine& engine) {
        engine.db()->Put({}, FamilyOf(engine, name), other, v);
      });
      EXPECT_THAT(Verify(), ::testing::Contains(HasSubstr(name))) << name;
    }
  }
}

// Each is whole, and of other values.
TEST_F(VerifyTest, RollupsOfOtherValuesAreFound) {
  const Pairs rollups = PairsOf("rollups");
  std::set<std::pair<int, int>> seen;  // Level and statistic.
  for (std::size_t i = 0; i < rollups.size(); ++i) {
    const std::string& key = rollups[i].first;
    if (!seen.insert({key[20], key[22]}).second) continue;
    // The next of the same size that differs.
    for (std::size_t j = i + 1; j < rollups.size(); ++j) {
      if (rollups[j].second == rollups[i].second ||
          rollups[j].first[20] != key[20]) {
        continue;
      }
      Copy();
      Change([&](const Engine& engine) {
        engine.db()->Put({}, engine.rollups(), key, rollups[j].second);
      });
      EXPECT_THAT(Verify(), ::testing::Contains(HasSubstr("roll-ups")));
      break;
    }
  }
  EXPECT_GE(seen.size(), 18u);
}

TEST_F(VerifyTest, OrdinalsThatLeadElsewhereAreFound) {
  Copy();
  Change([&](const Engine& engine) {
    engine.db()->Put({}, engine.index(), keys::Ordinal(1, 17),
                     keys::EncodeOrdinalValue({false, 1, 0, 4000}));
  });
  EXPECT_THAT(Verify(), ::testing::Contains(HasSubstr("ordinal 17")));
}

TEST_F(VerifyTest, AByteFlippedInAnyTableIsFoundAndTheTableNamed) {
  Copy();
  std::vector<std::string> tables;
  for (const auto& entry : fs::directory_iterator(dir_ + "/db")) {
    if (entry.path().extension() == ".sst") {
      tables.push_back(entry.path().string());
    }
  }
  ASSERT_GT(tables.size(), 5u);
  for (const std::string& table : tables) {
    Copy();
    std::string bytes = ReadAll(table);
    bytes[bytes.size() / 3] ^= 0x10;
    std::ofstream(table, std::ios::binary) << bytes;
    EXPECT_THAT(Verify(), ::testing::Contains(
                              HasSubstr(fs::path(table).filename().string())));
  }
}

TEST_F(VerifyTest, ATableThatIsGoneIsFound) {
  Copy();
  for (const auto& entry : fs::directory_iterator(dir_ + "/db")) {
    if (entry.path().extension() != ".sst") continue;
    fs::remove(entry.path());
    break;
  }
  EXPECT_THAT(Verify(), ::testing::Not(::testing::IsEmpty()));
}

TEST_F(VerifyTest, AByteFlippedInALogIsFound) {
  const std::string log = LogOfOneThatWasKilled();
  EXPECT_THAT(Verify(), ::testing::IsEmpty());
  std::string bytes = ReadAll(log);
  bytes[bytes.size() / 2] ^= 0x10;
  std::ofstream(log, std::ios::binary) << bytes;
  EXPECT_THAT(Verify(), ::testing::Contains(HasSubstr("a log is damaged")));
}

TEST_F(VerifyTest, ALogThatACrashCutOffIsWell) {
  const std::string log = LogOfOneThatWasKilled();
  fs::resize_file(log, fs::file_size(log) - 100);
  EXPECT_THAT(Verify(), ::testing::IsEmpty());
}

TEST_F(VerifyTest, ABackupMadeWhileStepsAreStoredAndSealedIsWell) {
  StoreOptions options;
  options.data_dir = temp_.path() + "/live";
  options.window_steps = 128;
  const auto store = RocksdbStore::Open(options, nullptr);
  GRADTAP_ASSERT_OK(store);
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> stored{0};
  std::thread ingest([&] {
    Filler filler(store->get(), MakeHello());
    for (std::int64_t step = 0; !stop; step += 32) {
      filler.Steps(step, step + 32);
      stored = step + 32;
    }
  });
  const std::atomic<bool> cancelled{false};
  for (int round = 0; round < 4; ++round) {
    const std::int64_t wanted = stored + 700;
    while (stored < wanted) std::this_thread::yield();
    fs::remove_all(dir_);
    const std::int64_t before = stored;
    GRADTAP_EXPECT_OK((*store)->Backup(dir_, cancelled));
    VerifySummary summary;
    EXPECT_THAT(Verify(&summary), ::testing::IsEmpty());
    EXPECT_GE(summary.rows + summary.sealed,
              static_cast<std::uint64_t>(before));
  }
  stop = true;
  ingest.join();
}

TEST_F(VerifyTest, AFolderThatACollectorHasOpenIsRefused) {
  StoreOptions options;
  options.data_dir = temp_.path() + "/open";
  const auto store = RocksdbStore::Open(options, nullptr);
  GRADTAP_ASSERT_OK(store);
  EXPECT_THAT(
      VerifyFolder(options.data_dir, [](const auto&, const auto&) {}),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("locked")));
}

TEST_F(VerifyTest, WhatIsNoDataFolderIsRefused) {
  const auto verify = [](const std::string& dir) {
    return VerifyFolder(dir, [](const auto&, const auto&) {});
  };
  EXPECT_THAT(verify(temp_.path() + "/nothing"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing")));
  EXPECT_THAT(verify(temp_.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("FORMAT")));
  EXPECT_TRUE(fs::is_empty(temp_.path()));
  Copy();
  std::ofstream(dir_ + "/FORMAT") << "gradtap-data 4000\n";
  EXPECT_THAT(verify(dir_), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("format 4000")));
}

}  // namespace
}  // namespace gradtap::server

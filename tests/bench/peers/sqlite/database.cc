#include "bench/peers/sqlite/database.h"

#include <stdexcept>

namespace gradtap::bench {
namespace {

constexpr int kPageBytes = 4096;
// As much as the collector's block cache.
constexpr int kCacheKib = 64 << 10;

void Reset(sqlite3_stmt* statement) {
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
}

std::string_view BlobOf(sqlite3_stmt* statement, int column) {
  const auto* bytes =
      static_cast<const char*>(sqlite3_column_blob(statement, column));
  return {bytes,
          static_cast<std::size_t>(sqlite3_column_bytes(statement, column))};
}

// Bits of a key from the highest on; the sign stays free.
class Key {
 public:
  Key& Add(std::uint64_t value, unsigned bits) {
    if (value >> bits != 0) throw std::runtime_error("too large for a key");
    key_ = key_ << bits | value;
    return *this;
  }
  std::int64_t key() const { return static_cast<std::int64_t>(key_); }

 private:
  std::uint64_t key_ = 0;
};

constexpr unsigned kRunBits = 8, kWindowBits = 24, kRoleBits = 3,
                   kFieldBits = 4, kPlaceBits = 24;
constexpr std::uint32_t kLastWindow = (1u << kWindowBits) - 1;

}  // namespace

Database::Database(const std::string& folder) {
  const std::string path = folder + "/tiles.db";
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &db,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
      nullptr);
  db_.reset(db);
  if (code != SQLITE_OK) Fail("cannot open " + path);
  Execute("PRAGMA page_size = " + std::to_string(kPageBytes));
  Execute("PRAGMA journal_mode = WAL");
  Execute("PRAGMA synchronous = FULL");
  Execute("PRAGMA cache_size = -" + std::to_string(kCacheKib));
  Execute("PRAGMA locking_mode = EXCLUSIVE");
  Execute(
      "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, name TEXT "
      "UNIQUE, parameters INTEGER, steps INTEGER)");
  Execute(
      "CREATE TABLE IF NOT EXISTS tiles (key INTEGER PRIMARY KEY, tile BLOB)");
  Execute(
      "CREATE TABLE IF NOT EXISTS rollups (key INTEGER PRIMARY KEY, block "
      "BLOB)");
  put_tile_ = Prepare("INSERT INTO tiles VALUES (?, ?)");
  put_rollup_ = Prepare("INSERT INTO rollups VALUES (?, ?)");
  put_steps_ = Prepare("UPDATE runs SET steps = ? WHERE id = ?");
  get_tile_ = Prepare("SELECT tile FROM tiles WHERE key = ?");
  get_rollups_ = Prepare(
      "SELECT key, block FROM rollups WHERE key BETWEEN ? AND ? ORDER BY key");
  get_run_ = Prepare("SELECT id, parameters, steps FROM runs WHERE name = ?");
}

std::string Database::Settings() {
  return std::string("SQLite ") + sqlite3_libversion() +
         ", WAL, synchronous=FULL, a transaction for each window, pages of " +
         std::to_string(kPageBytes) + " bytes, a cache of " +
         std::to_string(kCacheKib >> 10) + " MiB";
}

Database::Run Database::Make(const std::string& name,
                             std::uint32_t parameters) {
  const Statement make =
      Prepare("INSERT INTO runs (name, parameters, steps) VALUES (?, ?, 0)");
  sqlite3_bind_text(make.get(), 1, name.c_str(), -1, SQLITE_TRANSIENT);
  sqlite3_bind_int64(make.get(), 2, parameters);
  Step(make);
  return Find(name);
}

Database::Run Database::Find(const std::string& name) {
  Reset(get_run_.get());
  sqlite3_bind_text(get_run_.get(), 1, name.c_str(), -1, SQLITE_TRANSIENT);
  if (!Step(get_run_)) throw std::runtime_error("no run " + name);
  Run run;
  run.id = sqlite3_column_int64(get_run_.get(), 0);
  run.parameters =
      static_cast<std::uint32_t>(sqlite3_column_int64(get_run_.get(), 1));
  run.steps = sqlite3_column_int64(get_run_.get(), 2);
  Reset(get_run_.get());
  return run;
}

std::int64_t Database::KeyOf(const Run& run, const TileName& name) {
  return Key()
      .Add(static_cast<std::uint64_t>(run.id), kRunBits)
      .Add(name.window, kWindowBits)
      .Add(name.role, kRoleBits)
      .Add(name.field, kFieldBits)
      .Add(name.block, kPlaceBits)
      .key();
}

std::int64_t Database::KeyOf(const Run& run, const RollupName& name) {
  return Key()
      .Add(static_cast<std::uint64_t>(run.id), kRunBits)
      .Add(name.role, kRoleBits)
      .Add(name.statistic, kFieldBits)
      .Add(name.group, kPlaceBits)
      .Add(name.window, kWindowBits)
      .key();
}

void Database::Insert(const Statement& statement, const Blobs& blobs) {
  for (const auto& [key, bytes] : blobs) {
    Reset(statement.get());
    sqlite3_bind_int64(statement.get(), 1, key);
    sqlite3_bind_blob64(statement.get(), 2, bytes.data(), bytes.size(),
                        SQLITE_STATIC);
    Step(statement);
  }
  Reset(statement.get());
}

void Database::PutWindow(const Blobs& tiles, const Blobs& rollups,
                         std::int64_t steps, Run* run) {
  Execute("BEGIN");
  Insert(put_tile_, tiles);
  Insert(put_rollup_, rollups);
  Reset(put_steps_.get());
  sqlite3_bind_int64(put_steps_.get(), 1, run->steps + steps);
  sqlite3_bind_int64(put_steps_.get(), 2, run->id);
  Step(put_steps_);
  Reset(put_steps_.get());
  Execute("COMMIT");
  run->steps += steps;
}

std::string Database::ReadTile(const Run& run, const TileName& name) {
  Reset(get_tile_.get());
  sqlite3_bind_int64(get_tile_.get(), 1, KeyOf(run, name));
  if (!Step(get_tile_)) throw std::runtime_error("a tile is not there");
  std::string tile(BlobOf(get_tile_.get(), 0));
  Reset(get_tile_.get());
  return tile;
}

void Database::ReadRollups(
    const Run& run, const RollupName& of_first_window,
    const std::function<void(std::uint32_t, std::string_view)>& take) {
  RollupName last = of_first_window;
  last.window = kLastWindow;
  Reset(get_rollups_.get());
  sqlite3_bind_int64(get_rollups_.get(), 1, KeyOf(run, of_first_window));
  sqlite3_bind_int64(get_rollups_.get(), 2, KeyOf(run, last));
  while (Step(get_rollups_)) {
    take(static_cast<std::uint32_t>(
             sqlite3_column_int64(get_rollups_.get(), 0) & kLastWindow),
         BlobOf(get_rollups_.get(), 1));
  }
  Reset(get_rollups_.get());
}

void Database::Settle() {
  Execute("VACUUM");
  Execute("PRAGMA wal_checkpoint(TRUNCATE)");
}

void Database::Execute(const std::string& sql) {
  if (sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr) !=
      SQLITE_OK) {
    Fail(sql);
  }
}

Database::Statement Database::Prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(db_.get(), sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT,
                         &statement, nullptr) != SQLITE_OK) {
    Fail(sql);
  }
  return Statement(statement);
}

bool Database::Step(const Statement& statement) {
  const int code = sqlite3_step(statement.get());
  if (code != SQLITE_ROW && code != SQLITE_DONE) {
    Fail(sqlite3_sql(statement.get()));
  }
  return code == SQLITE_ROW;
}

void Database::Fail(const std::string& what) {
  throw std::runtime_error(what + ": " + sqlite3_errmsg(db_.get()));
}

}  // namespace gradtap::bench

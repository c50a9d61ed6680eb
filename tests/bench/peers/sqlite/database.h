// An SQLite database of sealed windows: tiles and roll-ups by numbers of their
// own.
//
// Each window is one transaction, synced as it commits (WAL, synchronous=FULL).
// Keys are integers, whose tables are SQLite's most compact, in the collector's
// own order: of a tile the window first, of a roll-up the series first.
//
// One thread. Layer: tests; std and SQLite only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_SQLITE_DATABASE_H_
#define GRADTAP_TESTS_BENCH_PEERS_SQLITE_DATABASE_H_

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace gradtap::bench {

struct TileName {
  std::uint32_t window = 0;
  std::uint32_t role = 0;
  std::uint32_t field = 0;
  std::uint32_t block = 0;
};
struct RollupName {
  std::uint32_t role = 0;
  std::uint32_t statistic = 0;
  std::uint32_t group = 0;
  std::uint32_t window = 0;
};

class Database {
 public:
  // Makes it if there is none in `folder`.
  explicit Database(const std::string& folder);

  // SQLite's version and how it is used, for people.
  static std::string Settings();

  struct Run {
    std::int64_t id = 0;
    std::uint32_t parameters = 0;
    std::int64_t steps = 0;
  };
  Run Make(const std::string& name, std::uint32_t parameters);
  Run Find(const std::string& name);

  // By key, so that tables only grow at their ends.
  using Blobs = std::map<std::int64_t, std::string>;
  static std::int64_t KeyOf(const Run& run, const TileName& name);
  static std::int64_t KeyOf(const Run& run, const RollupName& name);
  // Stores a window; `run->steps` grows by so many steps.
  void PutWindow(const Blobs& tiles, const Blobs& rollups, std::int64_t steps,
                 Run* run);

  std::string ReadTile(const Run& run, const TileName& name);
  // Of one group, window by window.
  void ReadRollups(const Run& run, const RollupName& of_first_window,
                   const std::function<void(std::uint32_t window,
                                            std::string_view bytes)>& take);

  // What it puts off: half-full pages, the log.
  void Settle();

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const {
      sqlite3_finalize(statement);
    }
  };
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

  void Execute(const std::string& sql);
  Statement Prepare(const std::string& sql);
  // True: there is a row.
  bool Step(const Statement& statement);
  void Insert(const Statement& statement, const Blobs& blobs);
  void Fail(const std::string& what);

  std::unique_ptr<sqlite3, Close> db_;
  Statement put_tile_, put_rollup_, put_steps_, get_tile_, get_rollups_,
      get_run_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_SQLITE_DATABASE_H_

// The views for files and pipes.
//
// Layer: client/cli.

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"
#include "client/cli/watch_view.h"
#include "client/rpc/words.h"
#include "core/names.h"
#include "proto/text/json_mapping.h"

namespace gradtap::client {
namespace {

std::string ConflatedText(std::uint64_t steps) {
  return absl::StrCat(Plural(steps, "step"),
                      " left out: this watcher was too slow");
}

class JsonView : public WatchView {
 public:
  explicit JsonView(Context& context) : context_(context) {}

  absl::Status Show(const v1::WatchResponse& message) override {
    const auto json = ToJson(message, JsonLayout::kOneLine);
    if (!json.ok()) return json.status();
    if (absl::Status status = context_.Write(*json); !status.ok()) {
      return status;
    }
    return context_.Flush();
  }
  absl::Status Remark(const std::string& text) override {
    context_.Note(text);
    return absl::OkStatus();
  }
  absl::Status End(const v1::RunInfo&, bool) override {
    return absl::OkStatus();  // The last object says it.
  }

 private:
  Context& context_;
};

class CsvView : public WatchView {
 public:
  explicit CsvView(Context& context) : context_(context) {}

  absl::Status Begin() override {
    absl::Status status = context_.Write(CsvHeader(
        {"run", "attempt", "rank", "step", "time", "param", "stat", "value"},
        context_.csv_options()));
    return status.ok() ? context_.Flush() : status;
  }

  absl::Status Show(const v1::WatchResponse& message) override {
    if (message.conflated_steps() > 0) {
      context_.Note(ConflatedText(message.conflated_steps()));
    }
    if (message.has_gap()) context_.Note("missing: " + GapText(message.gap()));
    if (!message.has_snapshot()) return absl::OkStatus();
    const v1::GetSnapshotResponse& snapshot = message.snapshot();
    CsvRow row(context_.csv_options());
    std::string text;
    for (const v1::Scalar& scalar : snapshot.scalars()) {
      Start(snapshot, row);
      row.Text("").Text(ScalarStatistic(scalar.name())).Number(scalar.value());
      text += row.Take();
    }
    for (const v1::SnapshotRow& parameter : snapshot.rows()) {
      for (int c = 0; c < snapshot.statistics_size(); ++c) {
        Start(snapshot, row);
        row.Text(parameter.parameter())
            .Text(snapshot.statistics(c))
            .Value(RowValue(parameter, c));
        text += row.Take();
      }
    }
    absl::Status status = context_.Write(text);
    return status.ok() ? context_.Flush() : status;
  }

  absl::Status Remark(const std::string& text) override {
    context_.Note(text);
    return absl::OkStatus();
  }

  absl::Status End(const v1::RunInfo& run, bool ended) override {
    if (ended) context_.Note(RunEndText(run));
    return absl::OkStatus();
  }

 private:
  // As `series` names it: the agent's own begin with "agent." already.
  static std::string ScalarStatistic(const std::string& name) {
    return name.rfind("agent.", 0) == 0 ? name : "scalar." + name;
  }

  static void Start(const v1::GetSnapshotResponse& snapshot, CsvRow& row) {
    row.Text(snapshot.run())
        .Unsigned(snapshot.attempt())
        .Text(RankText(snapshot.rank()))
        .Integer(snapshot.step())
        .Time(snapshot.time_unix_ns());
  }

  Context& context_;
};

class LinesView : public WatchView {
 public:
  explicit LinesView(Context& context) : context_(context) {}

  absl::Status Show(const v1::WatchResponse& message) override {
    std::string text;
    if (message.conflated_steps() > 0) {
      absl::StrAppend(&text, ConflatedText(message.conflated_steps()), "\n");
    }
    if (message.has_run()) {
      // The first message after an outage repeats what is known.
      if (message.run().state() == state_ &&
          message.run().state_since_unix_ns() == since_unix_ns_) {
        return Flush(text);
      }
      state_ = message.run().state();
      since_unix_ns_ = message.run().state_since_unix_ns();
      absl::StrAppend(&text, HumanTime(message.run().state_since_unix_ns()),
                      " run ", EscapeForTerminal(message.run().run()), " ",
                      std::string(StateWord(message.run().state())), "\n");
    } else if (message.has_gap()) {
      absl::StrAppend(&text, "missing: ", GapText(message.gap()), "\n");
    } else if (message.has_snapshot()) {
      AppendSnapshot(message.snapshot(), text);
    }
    return Flush(text);
  }

  absl::Status Remark(const std::string& text) override {
    context_.Note(text);
    return absl::OkStatus();
  }

  absl::Status End(const v1::RunInfo& run, bool ended) override {
    return ended ? Flush(RunEndText(run) + "\n") : absl::OkStatus();
  }

 private:
  static void AppendSnapshot(const v1::GetSnapshotResponse& snapshot,
                             std::string& text) {
    const std::string start =
        absl::StrCat(HumanTime(snapshot.time_unix_ns()), " rank ",
                     RankText(snapshot.rank()), " step ", snapshot.step());
    if (!snapshot.scalars().empty()) {
      absl::StrAppend(&text, start);
      for (const v1::Scalar& scalar : snapshot.scalars()) {
        absl::StrAppend(&text, " ", EscapeForTerminal(scalar.name()), "=",
                        HumanNumber(scalar.value()));
      }
      absl::StrAppend(&text, "\n");
    }
    for (const v1::SnapshotRow& row : snapshot.rows()) {
      absl::StrAppend(&text, start, " ", EscapeForTerminal(row.parameter()));
      for (int c = 0; c < snapshot.statistics_size(); ++c) {
        absl::StrAppend(
            &text, " ", EscapeForTerminal(snapshot.statistics(c)), "=",
            ValueCell(snapshot.statistics(c), RowValue(row, c)).text);
      }
      absl::StrAppend(&text, "\n");
    }
  }

  absl::Status Flush(const std::string& text) {
    absl::Status status = context_.Write(text);
    return status.ok() ? context_.Flush() : status;
  }

  Context& context_;
  v1::RunState state_ = v1::RUN_STATE_UNSPECIFIED;
  std::int64_t since_unix_ns_ = 0;
};

}  // namespace

std::unique_ptr<WatchView> MakeJsonView(Context& context) {
  return std::make_unique<JsonView>(context);
}
std::unique_ptr<WatchView> MakeCsvView(Context& context) {
  return std::make_unique<CsvView>(context);
}
std::unique_ptr<WatchView> MakeLinesView(Context& context) {
  return std::make_unique<LinesView>(context);
}

std::string RunEndText(const v1::RunInfo& run) {
  std::string text = absl::StrCat("run ", EscapeForTerminal(run.run()), " ",
                                  std::string(StateWord(run.state())));
  if (run.last_step() >= 0) {
    absl::StrAppend(&text, " at step ", run.last_step());
  }
  absl::StrAppend(&text, ": ", Plural(run.stored_steps(), "step"), " stored, ",
                  HumanCount(run.skipped_steps()), " skipped, ",
                  HumanCount(run.lost_steps()), " lost");
  return text;
}

}  // namespace gradtap::client

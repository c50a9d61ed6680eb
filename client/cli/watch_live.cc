// The view for terminals: a frame that is redrawn in place, on the ordinary
// screen, so that the last one stays when the command ends.
//
// Layer: client/cli.

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/snapshot_rows.h"
#include "client/cli/text.h"
#include "client/cli/watch_view.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

using std::chrono::steady_clock;

constexpr auto kBetweenFrames = std::chrono::milliseconds(250);
// Ages are shown in seconds.
constexpr auto kStaleFrame = std::chrono::seconds(1);
constexpr std::size_t kRateWindow = 32;

class LiveView : public WatchView {
 public:
  LiveView(Context& context, std::string sort)
      : context_(context), sort_(std::move(sort)) {}

  absl::Status Show(const v1::WatchResponse& message) override {
    conflated_ += message.conflated_steps();
    if (message.has_run()) run_ = message.run();
    if (message.has_gap()) last_gap_ = GapText(message.gap());
    if (message.has_snapshot()) Take(message.snapshot());
    dirty_ = true;
    return Age() >= kBetweenFrames ? Draw() : absl::OkStatus();
  }

  absl::Status Tick() override {
    const bool due = dirty_ ? Age() >= kBetweenFrames : Age() >= kStaleFrame;
    return due ? Draw() : absl::OkStatus();
  }

  // Above the frame, where it scrolls away as other messages do.
  absl::Status Remark(const std::string& text) override {
    if (absl::Status status = Erase(); !status.ok()) return status;
    context_.Note(text);
    return Draw();
  }

  absl::Status End(const v1::RunInfo& run, bool ended) override {
    absl::Status status = run_ ? Draw() : Erase();
    if (status.ok() && ended) status = context_.Write(RunEndText(run) + "\n");
    return status.ok() ? context_.Flush() : status;
  }

 private:
  steady_clock::duration Age() const {
    if (!drawn_at_) return steady_clock::duration::max();
    return context_.io().clock.Steady() - *drawn_at_;
  }

  // Of several ranks the lowest is shown.
  void Take(const v1::GetSnapshotResponse& snapshot) {
    ranks_.insert(snapshot.rank());
    if (snapshot.rank() != *ranks_.begin()) return;
    if (!pace_.empty() && snapshot.step() <= pace_.back().first) pace_.clear();
    pace_.emplace_back(snapshot.step(), snapshot.time_unix_ns());
    if (pace_.size() > kRateWindow) pace_.pop_front();
    snapshot_ = snapshot;
    sorted_ = false;
  }

  std::string Pace() const {
    if (pace_.size() < 2) return "";
    const double seconds = (pace_.back().second - pace_.front().second) / 1e9;
    const double steps =
        static_cast<double>(pace_.back().first - pace_.front().first);
    if (!(seconds > 0)) return "";
    const double rate = steps / seconds;
    return rate >= 1 ? HumanNumber(rate) + " steps/s"
                     : HumanNumber(1 / rate) + " s/step";
  }

  void Sort() {
    if (sorted_) return;
    sorted_ = true;
    if (sort_.empty() && snapshot_.statistics_size() > 0) {
      sort_ = snapshot_.statistics(0);
    }
    sort_problem_ = SortRows(sort_, snapshot_);
  }

  // What stands above the table.
  std::vector<Cell> Head() const {
    const std::int64_t now = context_.io().clock.UnixNanos();
    std::string first = absl::StrCat(EscapeForTerminal(run_->run()), "  ",
                                     std::string(StateWord(run_->state())));
    if (!ranks_.empty()) {
      absl::StrAppend(&first, "  step ", snapshot_.step(), "  ",
                      HumanAge(snapshot_.time_unix_ns(), now), "  attempt ",
                      snapshot_.attempt(), "  rank ", snapshot_.rank());
      if (run_->ranks() > 1) absl::StrAppend(&first, " of ", run_->ranks());
      const std::string pace = Pace();
      if (!pace.empty()) absl::StrAppend(&first, "  ", pace);
    }
    std::vector<Cell> lines = {{first, StateCell(run_->state()).tone}};
    const std::string scalars = ScalarsText(snapshot_);
    if (!scalars.empty()) lines.push_back({scalars});
    if (run_->lost_steps() > 0 || !last_gap_.empty()) {
      lines.push_back(
          {last_gap_.empty()
               ? absl::StrCat("missing: ", Plural(run_->lost_steps(), "step"),
                              " lost; see gradtap gaps")
               : "missing: " + last_gap_,
           Tone::kBad});
    }
    if (conflated_ > 0) {
      lines.push_back({absl::StrCat(Plural(conflated_, "step"),
                                    " not drawn: this terminal was too slow"),
                       Tone::kFaint});
    }
    if (!sort_problem_.ok()) {
      lines.push_back({std::string(sort_problem_.message()), Tone::kBad});
    }
    lines.push_back({ranks_.empty() ? "waiting for the first step" : ""});
    return lines;
  }

  absl::Status Draw() {
    if (!run_) return absl::OkStatus();
    Sort();
    WindowSize window = context_.io().window();
    window.columns = std::max<std::size_t>(window.columns, 20);
    window.rows = std::max<std::size_t>(window.rows, 4);
    TableStyle style = context_.table_style();
    style.width = window.columns;
    style.clip = true;
    std::string frame;
    // One line is left for the cursor.
    std::size_t room = window.rows - 1;
    for (const Cell& line : Head()) {
      if (room == 0) break;
      --room;
      AppendLine(Paint(ClipToWidth(line.text, window.columns), line.tone,
                       style.colour),
                 frame);
    }
    if (snapshot_.rows_size() > 0 && room >= 2) {
      room = AppendTable(style, room, frame);
    }
    const std::size_t lines = window.rows - 1 - room;
    std::string text = Home();
    text += frame;
    text += "\x1b[J";
    lines_ = lines;
    dirty_ = false;
    drawn_at_ = context_.io().clock.Steady();
    absl::Status status = context_.Write(text);
    return status.ok() ? context_.Flush() : status;
  }

  // Header, as many rows as fit, and what is left out. Returns the room left.
  std::size_t AppendTable(const TableStyle& style, std::size_t room,
                          std::string& frame) {
    const std::size_t all = static_cast<std::size_t>(snapshot_.rows_size());
    std::size_t shown = std::min(all, room - 1);
    const bool cut = shown < all && room >= 3;
    if (cut) --shown;
    Table table = SnapshotTable(snapshot_, static_cast<int>(shown));
    std::string text = table.Render(style);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      AppendLine(text.substr(begin, end - begin), frame);
      begin = end + 1;
    }
    if (cut) {
      const std::string rest =
          absl::StrCat(HumanCount(all - shown), " more, by ",
                       EscapeForTerminal(sort_), "; --match and --sort choose");
      AppendLine(
          Paint(ClipToWidth(rest, style.width), Tone::kFaint, style.colour),
          frame);
    }
    return room - 1 - shown - (cut ? 1 : 0);
  }

  static void AppendLine(const std::string& line, std::string& frame) {
    absl::StrAppend(&frame, line, "\x1b[K\n");
  }

  // To the first line of the frame that stands.
  std::string Home() const {
    return lines_ == 0 ? "\r" : absl::StrCat("\r\x1b[", lines_, "A");
  }

  absl::Status Erase() {
    if (lines_ == 0) return absl::OkStatus();
    absl::Status status = context_.Write(Home() + "\x1b[J");
    lines_ = 0;
    return status.ok() ? context_.Flush() : status;
  }

  Context& context_;
  std::string sort_;
  std::optional<v1::RunInfo> run_;
  v1::GetSnapshotResponse snapshot_;  // The newest of the lowest rank.
  bool sorted_ = true;
  absl::Status sort_problem_;
  std::set<std::uint32_t> ranks_;
  std::deque<std::pair<std::int64_t, std::int64_t>> pace_;  // Step, time.
  std::string last_gap_;
  std::uint64_t conflated_ = 0;
  bool dirty_ = false;
  std::size_t lines_ = 0;  // That the frame takes on the screen.
  std::optional<steady_clock::time_point> drawn_at_;
};

}  // namespace

std::unique_ptr<WatchView> MakeLiveView(Context& context, std::string sort) {
  return std::make_unique<LiveView>(context, std::move(sort));
}

}  // namespace gradtap::client

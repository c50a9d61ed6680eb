// Names are hostile text.

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

std::vector<std::string> HostileNames() {
  std::vector<std::string> names = {"<script>alert(1)</script>",
                                    "<img src=x onerror=alert(1)>",
                                    "\"><b>",
                                    "&lt;",
                                    "\x1b[2J",
                                    "\x1b[31mred\x1b[0m",
                                    "\x1b]0;title\x07",
                                    "\x1b]8;;http://x\x1b\\link",
                                    "\x1b[?1049h",
                                    "\xc2\x9b"
                                    "31m",
                                    "\xc2\x85",
                                    "a\rb",
                                    "a\nb",
                                    "a\r\nb",
                                    "a\tb",
                                    "\b\b\b",
                                    "\x7f",
                                    "\a",
                                    std::string("nul\0byte", 8),
                                    "=1+1",
                                    "=cmd|' /C calc'!A0",
                                    "+1",
                                    "-1",
                                    "@SUM(A1)",
                                    "\t=1",
                                    "\r=1",
                                    "a,b",
                                    "a\"b",
                                    "\"",
                                    "'",
                                    "''",
                                    "a;b",
                                    "../../etc/passwd",
                                    "..",
                                    "%s%n",
                                    "${HOME}",
                                    "$(reboot)",
                                    "`reboot`",
                                    "emoji🔥weight",
                                    "权重.偏置",
                                    "\u202Egnp.exe",
                                    "\u2066x\u2069",
                                    "e\u0301",
                                    "\u200B",
                                    "\uFEFFbom",
                                    "null",
                                    "NaN",
                                    "true",
                                    " leading and trailing ",
                                    "{\"json\":1}",
                                    std::string(512, 'x'),
                                    std::string(512, '.')};
  return names;
}

class CliNamesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(names_.size(), 50u);
    collector_.service.runs["evil"] = MakeNames("evil", names_);
    collector_.Start();
  }

  // The rows' cell in a column, without the header.
  std::vector<std::string> Cells(const std::string& csv, std::size_t column) {
    std::vector<std::string> cells;
    for (const auto& row : ReadCsv(csv)) {
      if (row.size() > column) cells.push_back(row[column]);
    }
    if (!cells.empty()) cells.erase(cells.begin());
    return cells;
  }

  const std::vector<std::string> names_ = HostileNames();
  FakeCollector collector_;
};

// No control character but the line end, no C1, no bidi control.
void ExpectSafe(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = text[i];
    EXPECT_FALSE((c < 0x20 && c != '\n') || c == 0x7f) << int{c} << " at " << i;
    if (c == 0xc2 && i + 1 < text.size()) {
      EXPECT_GE(static_cast<unsigned char>(text[i + 1]), 0xa0);
    }
  }
  EXPECT_EQ(text.find("\u202E"), std::string::npos);
  EXPECT_EQ(text.find("\u2066"), std::string::npos);
}

TEST_F(CliNamesTest, TablesEscapeThemAndKeepOneLineEach) {
  const std::size_t n = names_.size();
  const CliResult params = RunCli(collector_, {"params", "evil"});
  ExpectSafe(params.out);
  EXPECT_EQ(Lines(params.out).size(), n + 3);
  const CliResult series =
      RunCli(collector_, {"series", "evil", "--stat", "weight.mean"});
  ExpectSafe(series.out);
  EXPECT_EQ(Lines(series.out).size(), n + 1);
  const CliResult snapshot = RunCli(collector_, {"snapshot", "evil"});
  ExpectSafe(snapshot.out);
  EXPECT_EQ(Lines(snapshot.out).size(), n + 4);
  const CliResult watch = RunCli(collector_, {"watch", "evil"});
  ExpectSafe(watch.out);
  EXPECT_EQ(Lines(watch.out).size(), n + 4);
  const CliResult tree = RunCli(collector_, {"params", "evil", "--tree"});
  ExpectSafe(tree.out);
}

TEST_F(CliNamesTest, CsvCarriesThemAsTheyAre) {
  EXPECT_EQ(Cells(RunCli(collector_, {"params", "evil", "-o", "csv"}).out, 3),
            names_);
  EXPECT_EQ(Cells(RunCli(collector_, {"series", "evil", "--stat", "weight.mean",
                                      "-o", "csv"})
                      .out,
                  5),
            names_);
  EXPECT_EQ(Cells(RunCli(collector_, {"snapshot", "evil", "-o", "csv"}).out, 5),
            names_);
  EXPECT_EQ(
      Cells(RunCli(collector_, {"export", "evil", "--stat", "weight.mean"}).out,
            5),
      names_);
}

TEST_F(CliNamesTest, JsonCarriesThemAsTheyAre) {
  v1::ListParametersResponse answer;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(
                  RunCli(collector_, {"params", "evil", "--json"}).out, &answer)
                  .ok());
  std::vector<std::string> names;
  for (const auto& p : answer.parameters()) names.push_back(p.name());
  EXPECT_EQ(names, names_);
}

TEST_F(CliNamesTest, JsonNeverHasARawControlCharacter) {
  ExpectSafe(RunCli(collector_, {"export", "evil", "--stat", "weight.mean",
                                 "--format", "jsonl", "--match",
                                 "^[^\\x{202E}"
                                 "\\x{2066}]*$"})
                 .out);
  const std::string json = RunCli(collector_, {"params", "evil", "--json"}).out;
  EXPECT_EQ(json.find('\x1b'), std::string::npos);
  EXPECT_EQ(json.find('\0'), std::string::npos);
}

TEST_F(CliNamesTest, JsonLinesCarryThemAsTheyAre) {
  const auto lines =
      Lines(RunCli(collector_, {"export", "evil", "--stat", "weight.mean",
                                "--format", "jsonl"})
                .out);
  ASSERT_EQ(lines.size(), names_.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // The proto's "parameter" stands in for our "param".
    std::string line = lines[i];
    line.replace(line.find("\"param\":"), 8, "\"parameter\":");
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    v1::SnapshotRow row;
    ASSERT_TRUE(
        google::protobuf::util::JsonStringToMessage(line, &row, options).ok())
        << line;
    EXPECT_EQ(row.parameter(), names_[i]);
  }
}

TEST_F(CliNamesTest, SpreadsheetModeGuardsFormulas) {
  const auto cells = Cells(
      RunCli(collector_, {"params", "evil", "-o", "csv", "--spreadsheet"}).out,
      3);
  ASSERT_EQ(cells.size(), names_.size());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    EXPECT_EQ(std::string("=+-@\t\r").find(cells[i].front()),
              std::string::npos);
    EXPECT_TRUE(cells[i] == names_[i] || cells[i] == "'" + names_[i]);
  }
}

TEST_F(CliNamesTest, CsvOnATerminalIsEscaped) {
  CliSurroundings terminal;
  terminal.out_is_terminal = true;
  ExpectSafe(RunCli(collector_, {"params", "evil", "-o", "csv"}, terminal).out);
}

TEST_F(CliNamesTest, ANarrowTerminalKeepsTheTableInItsWidth) {
  CliSurroundings terminal;
  terminal.out_is_terminal = true;
  terminal.utf8 = true;
  terminal.window.columns = 40;
  terminal.env["TERM"] = "dumb";
  const CliResult result = RunCli(collector_, {"snapshot", "evil"}, terminal);
  const auto lines = Lines(result.out);
  for (std::size_t i = 3; i < lines.size(); ++i) {
    EXPECT_LE(lines[i].size(), 200u);
  }
  EXPECT_THAT(result.out, ::testing::HasSubstr("…"));
}

}  // namespace
}  // namespace gradtap::client::testing

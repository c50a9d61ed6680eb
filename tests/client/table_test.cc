#include "client/cli/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/cli/text.h"

namespace gradtap::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Table Small() {
  Table table({{"NAME", Align::kLeft, true}, {"N", Align::kRight}, {"X"}});
  table.AddRow({{"权重"}, {"12"}, {""}});
  table.AddRow({{"a.very.long.name.of.a.weight"}, {"3"}, {""}});
  return table;
}

TEST(TableTest, ColumnsAlignAndLinesHaveNoSpaceAtTheEnd) {
  Table table = Small();
  table.DropEmptyColumns();
  EXPECT_EQ(table.Render({}),
            "NAME                           N\n"
            "权重                          12\n"
            "a.very.long.name.of.a.weight   3\n");
}

TEST(TableTest, APipeIsNeverShortenedNorColoured) {
  Table table = Small();
  EXPECT_THAT(table.Render({}), HasSubstr("a.very.long.name.of.a.weight"));
  EXPECT_THAT(table.Render({}), Not(HasSubstr("\x1b")));
}

TEST(TableTest, ANarrowTerminalShortensNamesInTheMiddle) {
  Table table = Small();
  table.DropEmptyColumns();
  TableStyle style;
  style.width = 20;
  style.utf8 = true;
  EXPECT_EQ(table.Render(style),
            "NAME               N\n"
            "权重              12\n"
            "a.very.…a.weight   3\n");
}

TEST(TableTest, ClippingKeepsEveryRowWithinTheWindow) {
  for (std::size_t width = 1; width < 40; ++width) {
    Table table = Small();
    TableStyle style;
    style.width = width;
    style.clip = true;
    style.utf8 = true;
    const std::string text = table.Render(style);
    std::size_t begin = 0;
    while (begin < text.size()) {
      const std::size_t end = text.find('\n', begin);
      EXPECT_LE(DisplayWidth(text.substr(begin, end - begin)), width);
      begin = end + 1;
    }
  }
}

TEST(TableTest, ClippingLeavesOutWholeColumnsNeverDigits) {
  Table table({{"NAME"}, {"A", Align::kRight}, {"B", Align::kRight}});
  table.AddRow({{"w"}, {"1"}, {"123456"}});
  TableStyle style;
  style.clip = true;
  style.width = 14;
  EXPECT_EQ(table.Render(style), "NAME  A\nw     1\n");
  style.width = 15;
  EXPECT_EQ(table.Render(style), "NAME  A       B\nw     1  123456\n");
}

TEST(TableTest, ColourWrapsCellsAndLeavesWidthsAlone) {
  Table table({{"V", Align::kRight}});
  table.AddRow({{"NaN", Tone::kBad}});
  TableStyle style;
  style.colour = true;
  EXPECT_EQ(table.Render(style), "  \x1b[1mV\x1b[0m\n\x1b[31mNaN\x1b[0m\n");
}

TEST(TableTest, BlocksOfALongTableStayAligned) {
  Table table({{"NAME"}, {"N", Align::kRight}});
  table.AddRow({{"a-long-name"}, {"1"}});
  EXPECT_EQ(table.Render({}), "NAME         N\na-long-name  1\n");
  table.ClearRows();
  table.AddRow({{"b"}, {"2"}});
  EXPECT_EQ(table.Render({}, /*header=*/false), "b            2\n");
}

}  // namespace
}  // namespace gradtap::client

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "gradtap/agent.h"

namespace gradtap {
namespace {

ParameterDescription Describe(const std::string& name) {
  ParameterDescription p;
  p.name = name;
  p.dtype = "float32";
  p.device = "cpu";
  p.layout = "strided";
  p.module_type = "Linear";
  return p;
}

TEST(TableTextTest, ColumnsAreAlignedAndTotalsAreHuman) {
  ParameterTable table;
  ParameterDescription weight = Describe("fc.weight");
  weight.shape = {1000, 2000};
  weight.requires_grad = true;
  weight.numel = 2'000'000;
  weight.bytes = 8'000'000;
  weight.aliases = {"head.weight"};
  ParameterDescription mean = Describe("bn.running_mean");
  mean.buffer = true;
  mean.numel = 1;
  mean.bytes = 4;
  mean.unsupported_reason = "why not";
  table.parameters = {weight, mean};
  table.parameter_count = 1;
  table.parameter_numel = 2'000'000;
  table.parameter_bytes = 8'000'000;
  table.trainable_numel = 2'000'000;
  table.buffer_count = 1;
  table.buffer_numel = 1;
  table.buffer_bytes = 4;
  EXPECT_EQ(
      table.ToString(),
      "NAME             KIND       SHAPE         DTYPE    DEVICE  GRAD      "
      "NUMEL    BYTES  MODULE\n"
      "fc.weight        parameter  [1000, 2000]  float32  cpu     yes   "
      "2,000,000  7.6 MiB  Linear  also head.weight\n"
      "bn.running_mean  buffer     []            float32  cpu     no           "
      " "
      "1      4 B  Linear  not recorded: why not\n"
      "1 parameter of 2,000,000 elements (7.6 MiB), 2,000,000 trainable; "
      "1 buffer of 1 elements (4 B)\n");
}

TEST(TableTextTest, AnEmptyTableHasAHeadAndTotals) {
  std::ostringstream out;
  out << ParameterTable();
  EXPECT_THAT(out.str(), ::testing::StartsWith("NAME"));
  EXPECT_THAT(out.str(), ::testing::HasSubstr("0 parameters of 0 elements"));
}

TEST(TableTextTest, HostileNamesAreEscapedToOneLineEach) {
  ParameterTable table;
  table.parameters = {
      Describe("a\n\x1b[31m\xE2\x80\xAE"
               "b")};
  table.parameters[0].aliases = {"x\ty"};
  const std::string text = table.ToString();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\t'), std::string::npos);
  EXPECT_EQ(text.find("\xE2\x80\xAE"), std::string::npos);
}

TEST(TableTextTest, CharactersCountForTheWidthNotBytes) {
  ParameterTable table;
  table.parameters = {Describe("\xC3\xA4\xC3\xB6"), Describe("abcd")};
  const std::string text = table.ToString();
  EXPECT_THAT(text, ::testing::HasSubstr("\n\xC3\xA4\xC3\xB6    parameter"));
  EXPECT_THAT(text, ::testing::HasSubstr("\nabcd  parameter"));
}

}  // namespace
}  // namespace gradtap

#include "client/cli/snapshot_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "support/status_matchers.h"

namespace gradtap::client {
namespace {

using gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GetSnapshotResponse Snapshot() {
  v1::GetSnapshotResponse snapshot;
  snapshot.add_statistics("grad.l2");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const auto& [name, value] : {std::pair{"b", 1.0},
                                    {"gone", nan},
                                    {"a", 2.0},
                                    {"nan", nan},
                                    {"inf", -inf},
                                    {"c", 1.0}}) {
    v1::SnapshotRow& row = *snapshot.add_rows();
    row.set_parameter(name);
    row.add_value(value);
    if (row.parameter() == "gone") row.add_absent(0);
  }
  return snapshot;
}

std::vector<std::string> Names(const v1::GetSnapshotResponse& snapshot) {
  std::vector<std::string> names;
  for (const auto& row : snapshot.rows()) names.push_back(row.parameter());
  return names;
}

TEST(SnapshotRowsTest, NonFiniteComesFirstThenTheLargestThenAbsent) {
  auto snapshot = Snapshot();
  ASSERT_TRUE(SortRows("grad.l2", snapshot).ok());
  EXPECT_THAT(Names(snapshot),
              ElementsAre("nan", "inf", "a", "b", "c", "gone"));
}

TEST(SnapshotRowsTest, NamesSortAscending) {
  auto snapshot = Snapshot();
  ASSERT_TRUE(SortRows("name", snapshot).ok());
  EXPECT_THAT(Names(snapshot),
              ElementsAre("a", "b", "c", "gone", "inf", "nan"));
}

TEST(SnapshotRowsTest, AnUnknownColumnIsNamedWithThoseThereAre) {
  auto snapshot = Snapshot();
  EXPECT_THAT(SortRows("grad.l3", snapshot),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'grad.l3': one of name, grad.l2")));
}

TEST(SnapshotRowsTest, RowsThatAPeerCutShortAreAbsent) {
  v1::GetSnapshotResponse snapshot;
  snapshot.add_statistics("grad.l2");
  snapshot.add_rows()->set_parameter("w");
  ASSERT_TRUE(SortRows("grad.l2", snapshot).ok());
  EXPECT_EQ(SnapshotTable(snapshot, 10).Render({}),
            "PARAM  grad.l2\nw            -\n");
}

}  // namespace
}  // namespace gradtap::client

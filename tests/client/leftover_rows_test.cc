#include "client/cli/leftover_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gradtap::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

LeftoverRow Delivered() {
  LeftoverRow row;
  row.folder = "/spool/a";
  row.process = std::string(32, 'a');
  row.run = "mnist";
  row.attempt = 2;
  row.rank = 3;
  row.pid = 42;
  row.collector = "gpu7:7317";
  row.state = LeftoverRow::State::kDelivered;
  row.records_sent = 1501;
  row.steps_sent = 1500;
  row.records_there = 7;
  row.steps_there = 6;
  row.problems = {"a, b", "c \x1b[31m"};
  return row;
}

LeftoverRow Running() {
  LeftoverRow row;
  row.folder = "/spool/b";
  row.process = std::string(32, 'b');
  row.pid = 43;
  row.state = LeftoverRow::State::kRunning;
  return row;
}

TEST(LeftoverRowsTest, TheTableSaysWhatWasDeliveredAndWhoStillRuns) {
  const std::string table = LeftoverTable({Delivered(), Running()}, {});
  EXPECT_EQ(
      table,
      "RUN    ATTEMPT  RANK  PROCESS                           RECORDS  STEPS  "
      "ALREADY THERE  STATE\n"
      "mnist        2     3  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa    1,501  1,500  "
      "            7  delivered\n"
      "-                     bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb                  "
      "               still running, pid 43\n"
      "\nDelivered 1,500 steps of 1 process.\n");
  EXPECT_THAT(LeftoverTable({Running()}, {}), HasSubstr("Nothing new."));
}

TEST(LeftoverRowsTest, CsvLeavesEmptyWhatIsNotKnown) {
  EXPECT_EQ(LeftoverCsv({Delivered(), Running()}, {}),
            "folder,process,run,attempt,rank,pid,collector,state,records_sent,"
            "steps_sent,records_there,steps_there,steps_refused,problems\n"
            "/spool/a," +
                std::string(32, 'a') +
                ",mnist,2,3,42,gpu7:7317,delivered,1501,1500,7,6,0,\"a, b; c "
                "\x1b[31m\"\n"
                "/spool/b," +
                std::string(32, 'b') + ",,,,43,,running,0,0,0,0,0,\n");
}

TEST(LeftoverRowsTest, WhatIsForAnotherCollectorNamesIt) {
  LeftoverRow row = Delivered();
  row.state = LeftoverRow::State::kForAnother;
  row.records_sent = row.steps_sent = 0;
  row.collector = "gpu7\x1b:7317";
  const std::string table = LeftoverTable({row}, {});
  EXPECT_THAT(table, HasSubstr("for gpu7\\x1b:7317\n"));
  EXPECT_THAT(LeftoverCsv({row}, {}), HasSubstr(":7317,for_another,0,0,"));
}

TEST(LeftoverRowsTest, WhatIsRefusedIsNotSaidToBeDelivered) {
  LeftoverRow row = Delivered();
  row.state = LeftoverRow::State::kRefused;
  row.steps_refused = 3;
  EXPECT_THAT(LeftoverTable({row}, {}), HasSubstr("  refused in part\n"));
  row.steps_sent = 0;
  row.steps_refused = 1503;
  EXPECT_THAT(LeftoverTable({row}, {}), HasSubstr("  refused\n"));
  EXPECT_THAT(LeftoverCsv({row}, {}), HasSubstr(",refused,1501,0,7,6,1503,"));
}

TEST(LeftoverRowsTest, JsonHasOneObjectForAll) {
  EXPECT_EQ(LeftoverJson({}), "{\n \"leftovers\": []\n}\n");
  const std::string json = LeftoverJson({Delivered(), Running()});
  EXPECT_THAT(json, HasSubstr("\"run\": \"mnist\""));
  EXPECT_THAT(json, HasSubstr("\"stepsSent\": \"1500\""));
  EXPECT_THAT(json, HasSubstr("\"state\": \"running\""));
  EXPECT_THAT(json, HasSubstr("\"collector\": \"gpu7:7317\""));
  EXPECT_THAT(json, HasSubstr("\"a, b\","));
  EXPECT_THAT(json, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace gradtap::client

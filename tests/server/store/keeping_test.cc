// What a store does to keep a disk from filling: pins, sizes, deletion, and
// what it refuses.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "keeping_testing.h"
#include "server/store/rocksdb_store.h"
#include "tests/support/status_matchers.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(KeepingTest, APinLastsAcrossCommitsAndOpenings) {
  const StreamId id = AddRun("run", 3, 2);
  EXPECT_FALSE(store_->FindRun("run")->pinned);
  EXPECT_EQ(store_->PinRun("run", true).value_or(false), true);
  EXPECT_EQ(store_->PinRun("run", true).value_or(true), false);
  Open();
  EXPECT_TRUE(store_->FindRun("run")->pinned);
  AddSteps(id, 3, 4, 2);
  GRADTAP_ASSERT_OK(
      store_->OpenStream(MakeHello("run", "launch", 1, 'm'), 2).status());
  EXPECT_TRUE(store_->FindRun("run")->pinned);
  Open();
  EXPECT_TRUE(store_->FindRun("run")->pinned);
  EXPECT_EQ(store_->PinRun("run", false).value_or(false), true);
  Open();
  EXPECT_FALSE(store_->FindRun("run")->pinned);
  EXPECT_THAT(store_->PinRun("walk", true).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("walk")));
}

TEST_F(KeepingTest, TheNewestNotesOutliveTheStore) {
  const auto notes = [this] {
    const auto read = store_->ReadNotes();
    EXPECT_TRUE(read.ok()) << read.status();
    return read.value_or(std::vector<std::string>());
  };
  EXPECT_THAT(notes(), IsEmpty());
  for (const char* note : {"a", "b", "c"}) {
    GRADTAP_ASSERT_OK(store_->AddNote(note, 3));
  }
  Open();
  EXPECT_THAT(notes(), ElementsAre("a", "b", "c"));
  GRADTAP_ASSERT_OK(store_->AddNote("d", 3));
  EXPECT_THAT(notes(), ElementsAre("b", "c", "d"));
  Open();
  GRADTAP_ASSERT_OK(store_->AddNote("e", 2));
  EXPECT_THAT(notes(), ElementsAre("d", "e"));
  AddRun("run", 3, 2);
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_THAT(notes(), ElementsAre("d", "e"));
}

TEST_F(KeepingTest, AttachmentsLastAsLongAsTheirRun) {
  AddRun("run", 3, 2);
  AddRun("other", 3, 2);
  const auto names = [this](const std::string& run, const char* prefix) {
    std::vector<std::string> found;
    const auto read = store_->ReadAttachments(*store_->FindRun(run), prefix);
    EXPECT_TRUE(read.ok()) << read.status();
    for (const Attachment& attachment :
         read.value_or(std::vector<Attachment>())) {
      found.push_back(attachment.name + "=" + attachment.value);
    }
    return found;
  };
  const std::string bytes("\0\xff", 2);
  const std::vector<Attachment> some = {
      {"alert/1", "a"}, {"alert/2", bytes}, {"state", "s"}};
  GRADTAP_ASSERT_OK(store_->WriteAttachments(*store_->FindRun("run"), some));
  Open();
  EXPECT_THAT(names("run", "alert/"),
              ElementsAre("alert/1=a", "alert/2=" + bytes));
  EXPECT_THAT(names("other", ""), IsEmpty());
  const std::vector<Attachment> less = {{"alert/1", ""}, {"state", "t"}};
  GRADTAP_ASSERT_OK(store_->WriteAttachments(*store_->FindRun("run"), less));
  EXPECT_THAT(names("run", ""), ElementsAre("alert/2=" + bytes, "state=t"));
  const auto before = store_->FindRun("run");
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_THAT(store_->WriteAttachments(*before, some),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("run")));
  RunEntry later = *before;
  ++later.created_unix_ns;
  AddRun("run", 3, 2);
  EXPECT_THAT(names("run", ""), IsEmpty());
  EXPECT_THAT(store_->ReadAttachments(later, "").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("run")));
}

TEST_F(KeepingTest, ANoteThatFindsNoRoomIsRefusedAndTheNextOneIsKept) {
  env_ = faulty_.env();
  Open();
  GRADTAP_ASSERT_OK(store_->AddNote("a", 3));
  faulty_.fs().SetFull(true);
  EXPECT_THAT(store_->AddNote("b", 3),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  faulty_.fs().SetFull(false);
  GRADTAP_ASSERT_OK(store_->AddNote("c", 3));
  faulty_.fs().FailFromOperation(1);
  store_.reset();
  faulty_.fs().LosePower();
  env_ = nullptr;
  Open();
  EXPECT_EQ(store_->ReadNotes().value().front(), "a");
  EXPECT_EQ(store_->ReadNotes().value().back(), "c");
}

TEST_F(KeepingTest, APinnedRunIsNotDeleted) {
  const StreamId id = AddRun("run", 3, 2);
  ASSERT_TRUE(store_->PinRun("run", true).ok());
  EXPECT_THAT(store_->DeleteRun("run"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("gradtap unpin run")));
  EXPECT_EQ(StepsOf(store_.get(), id).size(), 3U);
  ASSERT_TRUE(store_->PinRun("run", false).ok());
  GRADTAP_EXPECT_OK(store_->DeleteRun("run"));
}

TEST_F(KeepingTest, ARunThatHasChangedSinceItWasSeenIsNotDeleted) {
  const StreamId id = AddRun("run", 3, 2);
  auto seen = store_->FindRun("run");
  AddSteps(id, 3, 4, 2);
  EXPECT_THAT(store_->DeleteRunAsSeen(seen),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("run")));
  seen = store_->FindRun("run");
  // Its agent is back, and has said nothing yet.
  GRADTAP_ASSERT_OK(store_->OpenStream(MakeHello("run"), 5).status());
  EXPECT_THAT(store_->DeleteRunAsSeen(seen),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("run")));
  GRADTAP_EXPECT_OK(store_->DeleteRunAsSeen(store_->FindRun("run")));
  EXPECT_EQ(store_->FindRun("run"), nullptr);
}

TEST_F(KeepingTest, ARunsBytesOnDiskAreItsOwnWhereverTheyStand) {
  End(AddRun("large", 300));
  End(AddRun("small", 30));
  // 2 roles of 100 parameters, 5 floats each, and counts.
  const std::uint64_t values = 300 * 2 * 100 * 5 * 4;
  for (const bool sealed : {false, true}) {
    SCOPED_TRACE(sealed);
    if (sealed) {
      EXPECT_EQ(SealAll(), 3 + 1);
    }
    // Of what is in memory RocksDB's estimate is a random sample: more than
    // nothing is all that holds of it.
    EXPECT_GT(*store_->RunDiskBytes("large"), 0U);
    Open();  // From memory to disk.
    const auto large = store_->RunDiskBytes("large");
    const auto small = store_->RunDiskBytes("small");
    ASSERT_TRUE(large.ok() && small.ok());
    EXPECT_GT(*large, values * 6 / 10);
    EXPECT_LT(*large, values * 2);
    EXPECT_GT(*small, *large / 100);
    EXPECT_LT(*small, *large / 2);
  }
  EXPECT_THAT(store_->RunDiskBytes("none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST_F(KeepingTest, DeletingGivesTheFoldersBytesBackRowsAndWindowsAlike) {
  constexpr std::uint64_t kMiB = 1U << 20;
  End(AddRun("kept", 10));  // With what logs take in advance.
  const std::uint64_t empty = store_->disk_bytes();
  for (const bool sealed : {false, true}) {
    SCOPED_TRACE(sealed);
    End(AddRun("run", 1'600, 1'000));  // 64 MB of values.
    if (sealed) {
      EXPECT_EQ(SealAll(), 13 + 1);  // One of the run that is kept.
    }
    const auto bytes = store_->RunDiskBytes("run");
    ASSERT_TRUE(bytes.ok());
    EXPECT_GT(store_->disk_bytes(), empty + 15 * kMiB);
    const std::uint64_t removed = store_->counters().removed_bytes;
    GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
    EXPECT_EQ(store_->counters().removed_bytes - removed, *bytes);
    Open();  // Files go a moment after what was in them.
    EXPECT_LT(store_->disk_bytes(), empty + 5 * kMiB);
  }
  EXPECT_EQ(store_->Runs().size(), 1U);
}

TEST_F(KeepingTest, WhileRecordsAreRefusedAllElseGoesOn) {
  const StreamId id = AddRun("run", 3, 2);
  AddRun("other", 3, 2);
  store_->RefuseRecords("the disk is at its reserve");
  StreamCommit commit = Next(id);
  EXPECT_THAT(store_->Commit({&commit, 1}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at its reserve")));
  EXPECT_THAT(store_->OpenStream(MakeHello("run"), 2).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at its reserve")));
  EXPECT_EQ(StepsOf(store_.get(), id).size(), 3U);
  EXPECT_TRUE(store_->PinRun("run", true).ok());
  GRADTAP_EXPECT_OK(store_->DeleteRun("other"));
  store_->RefuseRecords("");
  GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
}

}  // namespace
}  // namespace gradtap::server::testing

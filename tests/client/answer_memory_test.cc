#include "client/rpc/answer_memory.h"

#include <gtest/gtest.h>

#include <string>

#include "gradtap/v1/query.pb.h"

namespace gradtap::client {
namespace {

// Takes some `bytes` of the arena.
void Fill(AnswerMemory::Lease* lease, std::size_t bytes) {
  auto* answer = lease->Create<v1::GetSnapshotResponse>();
  for (std::size_t rows = bytes / 128; rows > 0; --rows) {
    v1::SnapshotRow* row = answer->add_rows();
    row->set_parameter("p");
    for (int i = 0; i < 4; ++i) row->add_value(i);
  }
  EXPECT_EQ(answer->rows(answer->rows_size() - 1).value(3), 3);
}

TEST(AnswerMemoryTest, KeepsABlockForAnAnswerLikeTheLargest) {
  AnswerMemory memory;
  EXPECT_EQ(memory.kept_bytes(), 0u);
  {
    AnswerMemory::Lease lease(&memory);
    Fill(&lease, 1 << 20);
  }
  const std::size_t kept = memory.kept_bytes();
  EXPECT_GE(kept, std::size_t{1} << 20);
  EXPECT_LE(kept, std::size_t{8} << 20);
  {
    AnswerMemory::Lease lease(&memory);
    EXPECT_EQ(memory.kept_bytes(), 0u);  // It has the block.
    Fill(&lease, 1 << 10);
  }
  EXPECT_EQ(memory.kept_bytes(), kept);
}

TEST(AnswerMemoryTest, AHugeAnswerIsNotKept) {
  AnswerMemory memory;
  {
    AnswerMemory::Lease lease(&memory);
    Fill(&lease, 4 * AnswerMemory::kMostKept);
  }
  EXPECT_EQ(memory.kept_bytes(), AnswerMemory::kMostKept);
}

TEST(AnswerMemoryTest, CallsAtTheSameTimeHaveMemoryOfTheirOwn) {
  AnswerMemory memory;
  {
    AnswerMemory::Lease first(&memory);
    AnswerMemory::Lease second(&memory);
    auto* one = first.Create<v1::GetRunRequest>();
    auto* two = second.Create<v1::GetRunRequest>();
    one->set_run(std::string(100, 'a'));
    two->set_run(std::string(100, 'b'));
    EXPECT_EQ(one->run(), std::string(100, 'a'));
    Fill(&second, 1 << 20);
  }
  // The larger one stays, whoever came back first.
  EXPECT_GE(memory.kept_bytes(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace gradtap::client

#include "common/wire/read_reply.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/checksum.h"

namespace cairn::wire {
namespace {

constexpr ChunkId kChunk{7};

struct Answer {
  ReadReply reply;
  std::vector<std::byte> data;
};

// `blocks` whole blocks from `offset`, of a chunk of 64 blocks.
Answer Blocks(uint64_t offset, size_t blocks) {
  Answer answer;
  answer.data.assign(blocks * kBlockBytes, std::byte{5});
  answer.reply.offset = offset;
  answer.reply.chunk_length = 64 * kBlockBytes;
  for (size_t i = 0; i < blocks; ++i) {
    const auto block = std::span(answer.data).subspan(i * kBlockBytes, kBlockBytes);
    answer.reply.checksums.push_back(BlockChecksum(kChunk, offset / kBlockBytes + i, block));
  }
  return answer;
}

StatusCode Check(uint64_t offset, uint64_t length, const Answer& answer) {
  return CheckReadReply(kChunk, offset, length, answer.reply, answer.data).code();
}

TEST(ReadReplyTest, TheBlocksOfTheRangeAreBelieved) {
  EXPECT_EQ(Check(kBlockBytes, kBlockBytes, Blocks(kBlockBytes, 1)), StatusCode::kOk);
  EXPECT_EQ(Check(kBlockBytes + 1, kBlockBytes, Blocks(kBlockBytes, 2)), StatusCode::kOk) << "unaligned";
  EXPECT_EQ(Check(64 * kBlockBytes, 10, Blocks(64 * kBlockBytes, 0)), StatusCode::kOk) << "beyond the end";
}

TEST(ReadReplyTest, LessThanTheRangeIsRefused) {
  EXPECT_EQ(Check(kBlockBytes, 2 * kBlockBytes, Blocks(kBlockBytes, 1)), StatusCode::kMalformed);
  EXPECT_EQ(Check(kBlockBytes, 10, Blocks(2 * kBlockBytes, 1)), StatusCode::kMalformed);
}

// Who keeps an answer counts what was asked for: a byte that pins megabytes would pass every bound.
TEST(ReadReplyTest, MoreThanTheBlocksOfTheRangeIsRefused) {
  EXPECT_EQ(Check(kBlockBytes, 1, Blocks(kBlockBytes, 2)), StatusCode::kMalformed) << "behind";
  EXPECT_EQ(Check(kBlockBytes, 1, Blocks(0, 2)), StatusCode::kMalformed) << "in front";
}

TEST(ReadReplyTest, AWrongChecksumIsDamage) {
  Answer answer = Blocks(0, 2);
  answer.data.back() ^= std::byte{1};
  EXPECT_EQ(Check(0, 2 * kBlockBytes, answer), StatusCode::kCorrupt);
}

}  // namespace
}  // namespace cairn::wire

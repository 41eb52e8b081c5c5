// Whatever arrives at the data plane: the server goes on serving, and nothing that was not asked for happens.
#include <gtest/gtest.h>

#include <random>

#include "tests/chunkserver/data_node.h"
#include "tests/net/test_server.h"

namespace cairn::chunkserver {
namespace {

using wire::MessageType;

constexpr ServerId kServer{7};
constexpr ChunkId kChunk{42};

std::vector<std::byte> Greeting() {
  wire::HelloRequest hello;
  hello.cluster = kTestCluster;
  hello.name = "fuzzer";
  return net::RawClient::EncodeFrame(static_cast<uint8_t>(MessageType::kHello), 0, wire::Encode(hello), {});
}

class FuzzTest : public testing::Test {
 protected:
  void SetUp() override {
    content_ = Pattern(50'000, 3);
    ASSERT_TRUE(
        caller_.Mutate(WriteRequest(kChunk, {Epoch{5}, 1}, Stamp{}, 0, content_), content_)->status.ok());
  }
  void ExpectWitness() {
    const auto read = caller_.Read({kChunk, {Epoch{5}, 1}, true, 0, 50'000});
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(read->first.status.ok()) << read->first.status.ToString();
    EXPECT_EQ(read->second, content_);
  }
  // A frame of each kind, sound.
  std::vector<std::vector<std::byte>> SoundFrames() {
    const auto data = Pattern(9000, 4);
    const ChunkId other{77};
    std::vector<std::vector<std::byte>> frames;
    const auto add = [&](MessageType type, const wire::Bytes& meta,
                         const std::vector<std::byte>& payload = {}) {
      frames.push_back(
          net::RawClient::EncodeFrame(static_cast<uint8_t>(type), frames.size() + 1, meta, payload));
    };
    add(MessageType::kMutate, wire::Encode(WriteRequest(other, {Epoch{6}, 1}, Stamp{}, 100, data)), data);
    add(MessageType::kRead, wire::Encode(wire::ReadRequest{kChunk, {Epoch{5}, 1}, true, 0, 5000}));
    add(MessageType::kFlush, wire::Encode(wire::FlushRequest{{kChunk}}));
    add(MessageType::kSeal, wire::Encode(wire::SealRequest{{{other, {Epoch{6}, 1}}}}));
    add(MessageType::kQuery, wire::Encode(wire::QueryRequest{{kChunk}}));
    add(MessageType::kDigests,
        wire::Encode(wire::DigestsRequest{kChunk, {Epoch{5}, 1}, 0, wire::kDigestRangeBytes}));
    add(MessageType::kStage, wire::Encode(wire::StageRequest{.source = kChunk,
                                                             .want = {Epoch{5}, 1},
                                                             .source_offset = 1000,
                                                             .chunk = other,
                                                             .offset = 5000,
                                                             .length = 9000,
                                                             .carriers = {{ServerId{8}, "127.0.0.1:1"}}}));
    add(MessageType::kMutateStaged,
        wire::Encode(wire::MutateStagedRequest{1, WriteRequest(other, {Epoch{6}, 1}, Stamp{}, 5000, data)}));
    add(MessageType::kBegin, wire::Encode(wire::BeginRequest{{{other, Epoch{7}, {Epoch{6}, 1}}}}));
    return frames;
  }

  DataNode node_{kServer};
  Caller caller_{node_.peer()};
  std::vector<std::byte> content_;
  std::mt19937_64 random_{20261120};
};

TEST_F(FuzzTest, GarbageInsteadOfAGreeting) {
  for (int i = 0; i < 1000; ++i) {
    net::RawClient raw(node_.port());
    raw.Send(Pattern(1 + random_() % 500, random_()));
    raw.WaitForClose();
  }
  ExpectWitness();
}

TEST_F(FuzzTest, FlippedBytesInSoundFrames) {
  const auto frames = SoundFrames();
  for (int i = 0; i < 2000; ++i) {
    net::RawClient raw(node_.port());
    raw.Send(Greeting());
    auto frame = frames[random_() % frames.size()];
    for (uint64_t flips = 1 + random_() % 3; flips > 0; --flips)
      frame[random_() % frame.size()] = std::byte(random_());
    raw.Send(frame);
    raw.WaitForClose();
  }
  ExpectWitness();
}

// With right checksums over wrong content the decoders and the handlers are reached.
TEST_F(FuzzTest, NonsenseWithRightChecksums) {
  const auto frames = SoundFrames();
  size_t answered = 0;
  for (int i = 0; i < 3000; ++i) {
    net::RawClient raw(node_.port());
    raw.Send(Greeting());
    const auto& frame = frames[random_() % frames.size()];
    const auto header = wire::DecodeHeader(std::span<const std::byte, 32>(frame.data(), 32));
    ASSERT_TRUE(header.ok());
    std::vector<std::byte> meta(frame.begin() + 32, frame.begin() + 32 + header->meta_bytes);
    std::vector<std::byte> data(frame.begin() + 32 + header->meta_bytes, frame.end());
    uint8_t type = header->type;
    switch (random_() % 5) {
      case 0:
        type = static_cast<uint8_t>(random_());
        break;
      case 1:
        meta.resize(random_() % (meta.size() + 20));
        break;
      case 2:
        data.resize(random_() % 10'000);
        break;
      default:
        // The chunk of the witness stays out of it: these frames may be sound by chance.
        for (uint64_t flips = 1 + random_() % 3; flips > 0 && meta.size() > 16; --flips) {
          meta[8 + random_() % (meta.size() - 8)] = std::byte(random_());
        }
    }
    if (type == static_cast<uint8_t>(MessageType::kSeal) ||
        type == static_cast<uint8_t>(MessageType::kBegin)) {
      if (random_() % 2 == 0) type = static_cast<uint8_t>(MessageType::kQuery);
    }
    raw.SendFrame(type, random_(), meta, data);
    // The answer to the greeting came in any case.
    if (raw.Receive(32).size() == 32) ++answered;
    raw.WaitForClose();
  }
  EXPECT_EQ(answered, 3000u);
  replication::ReplicaInfo info;
  ASSERT_TRUE(node_.disks().Query(kChunk, &info).ok());
  EXPECT_EQ(info.accepted.seq, 1u);
  EXPECT_EQ(info.length, content_.size());
}

TEST_F(FuzzTest, CutOffFrames) {
  const auto frames = SoundFrames();
  for (int i = 0; i < 500; ++i) {
    net::RawClient raw(node_.port());
    raw.Send(Greeting());
    const auto& frame = frames[random_() % frames.size()];
    raw.Send(std::span(frame).first(random_() % frame.size()));
    raw.WaitForClose();
  }
  ExpectWitness();
}

}  // namespace
}  // namespace cairn::chunkserver

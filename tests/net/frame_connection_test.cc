#include "common/net/frame_connection.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/net/test_server.h"

namespace cairn::net {
namespace {

std::vector<std::byte> Pattern(size_t bytes, uint64_t seed) {
  std::vector<std::byte> data(bytes);
  std::mt19937_64 random(seed);
  for (auto& byte : data) byte = std::byte(random());
  return data;
}

void Echo(FrameConnection& connection, Frame frame) {
  connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id,
                  SharedBytes::Own(std::vector<std::byte>(frame.meta.begin(), frame.meta.end())),
                  std::move(frame.data));
}

TEST(FrameConnectionTest, FramesOfAllSizesArriveWholeAndInOrder) {
  TestServer server(Echo);
  ASSERT_TRUE(server.status().ok()) << server.status().ToString();
  RawClient client(server.port());
  ASSERT_TRUE(client.connected());
  struct Size {
    size_t meta;
    size_t data;
  };
  // Around the staging buffer's size and the limits, and many small ones that share a read.
  std::vector<Size> sizes = {{0, 0},     {1, 0},     {0, 1},       {100, 4096},   {65536 - 32, 0},
                             {65536, 1}, {65537, 7}, {1 << 20, 0}, {10, 1 << 20}, {1 << 20, 4 << 20},
                             {3, 65536}, {3, 65537}};
  for (size_t i = 0; i < 200; ++i) sizes.push_back({i, i * 3});
  std::vector<std::byte> all;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto frame =
        RawClient::EncodeFrame(2, i, Pattern(sizes[i].meta, i), Pattern(sizes[i].data, i + 1000));
    all.insert(all.end(), frame.begin(), frame.end());
  }
  std::thread sender([&] { EXPECT_TRUE(client.Send(all)); });
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto header_bytes = client.Receive(wire::kHeaderBytes);
    ASSERT_EQ(header_bytes.size(), wire::kHeaderBytes);
    const auto header =
        wire::DecodeHeader(std::span<const std::byte, wire::kHeaderBytes>(header_bytes.data(), 32));
    ASSERT_TRUE(header.ok()) << header.status().ToString();
    EXPECT_EQ(header->request_id, i);
    EXPECT_EQ(header->type, 0x82);
    EXPECT_EQ(client.Receive(header->meta_bytes), Pattern(sizes[i].meta, i)) << i;
    EXPECT_EQ(client.Receive(header->data_bytes), Pattern(sizes[i].data, i + 1000)) << i;
  }
  sender.join();
}

TEST(FrameConnectionTest, AFrameSentByteByByteArrives) {
  TestServer server(Echo);
  RawClient client(server.port());
  const auto frame = RawClient::EncodeFrame(1, 5, Pattern(50, 1), Pattern(70, 2));
  for (const std::byte& byte : frame) ASSERT_TRUE(client.Send({&byte, 1}));
  const auto reply = client.Receive(frame.size());
  ASSERT_EQ(reply.size(), frame.size());
  EXPECT_TRUE(std::equal(frame.begin() + 32, frame.end(), reply.begin() + 32));
}

TEST(FrameConnectionTest, PausedConnectionDeliversEverythingAfterResuming) {
  std::vector<uint64_t> seen;
  std::shared_ptr<FrameConnection> paused;
  std::promise<void> first;
  std::promise<void> last;
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    seen.push_back(frame.header.request_id);
    if (seen.size() == 1) {
      connection.PauseReading();
      paused = connection.shared_from_this();
      first.set_value();
    }
    if (seen.size() == 100) last.set_value();
  });
  RawClient client(server.port());
  // The second frame carries data: it is complete in the buffers of the connection while reading is paused.
  for (uint64_t i = 0; i < 100; ++i) client.SendFrame(2, i, Pattern(10, i), Pattern(i == 1 ? 5000 : 0, i));
  first.get_future().wait();
  server.RunOnLoop([&] { EXPECT_EQ(seen.size(), 1u); });
  server.RunOnLoop([&] { paused->ResumeReading(); });
  last.get_future().wait();
  server.RunOnLoop([&] {
    for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(seen[i], i);
    paused.reset();
  });
}

TEST(FrameConnectionTest, TheOwnerHearsWhenALongSendQueueIsShortAgain) {
  std::promise<size_t> queued;
  TestServer server([&](FrameConnection& connection, const Frame&) {
    for (uint64_t i = 0; i < 16; ++i) connection.Send(0x83, i, {}, SharedBytes::Own(Pattern(4 << 20, i)));
    queued.set_value(connection.queued_bytes());
  });
  RawClient client(server.port());
  client.SendFrame(3, 1, {}, {});
  EXPECT_EQ(queued.get_future().get(), 16 * (32 + (4u << 20)));
  for (uint64_t i = 0; i < 16; ++i) {
    ASSERT_EQ(client.Receive(32).size(), 32u);
    ASSERT_EQ(client.Receive(4 << 20), Pattern(4 << 20, i));
  }
  server.RunOnLoop([] {});
  EXPECT_EQ(server.queue_short, 1);
}

TEST(FrameConnectionTest, GarbageEndsTheConnectionAndOnlyThat) {
  TestServer server(Echo);
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    RawClient client(server.port());
    client.Send(Pattern(32 + random() % 2000, random()));
    client.WaitUntilDropped();
  }
  RawClient good(server.port());
  good.SendFrame(1, 9, {}, {});
  EXPECT_EQ(good.Receive(32).size(), 32u);
}

TEST(FrameConnectionTest, ADamagedMetaPartIsNoticed) {
  TestServer server(Echo);
  RawClient client(server.port());
  auto frame = RawClient::EncodeFrame(1, 5, Pattern(50, 1), {});
  frame[40] ^= std::byte{1};
  client.Send(frame);
  client.WaitUntilDropped();
  server.RunOnLoop([] {});
  EXPECT_EQ(server.LastClose().code(), StatusCode::kMalformed);
}

TEST(FrameConnectionTest, ClosingInTheMiddleOfAFrameIsTold) {
  TestServer server(Echo);
  {
    RawClient client(server.port());
    const auto frame = RawClient::EncodeFrame(1, 5, Pattern(50, 1), Pattern(1000, 1));
    client.Send(std::span(frame).first(500));
    client.WaitForClose();
  }
  server.RunOnLoop([] {});
  EXPECT_NE(server.LastClose().message().find("in the middle of a frame"), std::string::npos)
      << server.LastClose().ToString();
}

TEST(FrameServerTest, ConnectionsBeyondTheLimitAreClosed) {
  TestServer server(Echo, {.max_connections = 2});
  RawClient a(server.port());
  a.SendFrame(1, 1, {}, {});
  ASSERT_EQ(a.Receive(32).size(), 32u);
  auto b = std::make_unique<RawClient>(server.port());
  b->SendFrame(1, 1, {}, {});
  ASSERT_EQ(b->Receive(32).size(), 32u);
  RawClient c(server.port());
  EXPECT_EQ(c.Receive(1).size(), 0u);
  EXPECT_EQ(server.server().refused(), 1u);
  b->WaitForClose();
  b.reset();
  server.RunOnLoop([&] { EXPECT_EQ(server.server().connections(), 1u); });
  RawClient d(server.port());
  d.SendFrame(1, 1, {}, {});
  EXPECT_EQ(d.Receive(32).size(), 32u);
}

TEST(FrameServerTest, ABusyPortIsRefusedByName) {
  TestServer first(Echo);
  EventLoop loop;
  FrameServer second({&loop}, {}, [](auto, auto, auto, auto) {});
  const Status status = second.Start({"127.0.0.1", first.port()});
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find(first.address()), std::string::npos) << status.ToString();
}

TEST(FrameServerTest, NamesAndWildcardsServeOnePort) {
  for (const char* host : {"localhost", "*"}) {
    TestServer server(Echo, {}, host);
    ASSERT_TRUE(server.status().ok()) << host << ": " << server.status().ToString();
    RawClient client(server.port());
    client.SendFrame(1, 1, {}, {});
    EXPECT_EQ(client.Receive(32).size(), 32u);
  }
}

}  // namespace
}  // namespace cairn::net

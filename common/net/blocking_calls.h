// Small requests that the calling thread carries out itself: it sends on a connection that is its own
// meanwhile, and sleeps in the receive. A request over the event loop costs a wake-up of the loop and one of
// the caller more, which is most of the time that a read of 4 KiB takes.
//
//   BlockingCalls calls(options);
//   calls.Call(peer, type, meta, 100, [](std::span<const std::byte> meta, std::span<const std::byte> data) {
//   ... });
//
// Only for what may be asked again in another way: on any failure (nobody listens, an answer that takes too
// long, a connection that broke) the connection is closed, and `use` was not called.
//
// Bounds: kMaxPerServer connections to each server; those that were not used for kIdleNanos are closed by
// SweepIdle. Thread-safety: all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/net/data_client.h"
#include "common/net/socket.h"
#include "common/wire/frame.h"

namespace cairn::net {

class BlockingCalls {
 public:
  using Outcome = DataClient::Outcome;
  using Use = std::function<void(std::span<const std::byte> meta, std::span<const std::byte> data)>;
  static constexpr size_t kMaxPerServer = 8;
  static constexpr uint32_t kMaxDataBytes = 128u << 10;  // of an answer
  static constexpr int64_t kIdleNanos = 10 * kNanosPerSecond;

  BlockingCalls(const DataClientOptions& options, const Clock* clock) : options_(options), clock_(clock) {}
  BlockingCalls(const BlockingCalls&) = delete;
  BlockingCalls& operator=(const BlockingCalls&) = delete;

  void SetCluster(Uuid cluster);
  // Waits at most about `timeout_ms`, and as long once more for a connection. `use` runs before Call returns;
  // what it is given is valid meanwhile. Names are not resolved here: an address that is not numeric is
  // refused.
  Outcome Call(const Peer& peer, wire::MessageType type, std::span<const std::byte> meta, int64_t timeout_ms,
               const Use& use);
  // Closes what was idle for long; true if connections are left.
  bool SweepIdle();
  void CloseAll();
  size_t connections() const;

 private:
  struct Channel {
    Socket socket;
    std::string address;
    int64_t timeout_ms = 0;  // set on the socket
    uint64_t next_id = 1;
    int64_t idle_since_ns = 0;
    std::vector<std::byte> buffer;  // of the answer
  };
  struct Answer {
    wire::FrameHeader header;
    std::span<const std::byte> meta;
    std::span<const std::byte> data;
  };
  struct Server {
    std::vector<std::unique_ptr<Channel>> idle;  // the most recently used one last
    size_t in_use = 0;
    int64_t not_before_ns = 0;  // after a failure to connect
  };

  std::unique_ptr<Channel> Take(const Peer& peer, bool* connect);
  std::unique_ptr<Channel> Connect(const Peer& peer, int64_t timeout_ms);
  void Give(ServerId server, std::unique_ptr<Channel> channel, bool connect_failed);
  static void SetTimeout(Channel* channel, int64_t timeout_ms);
  static bool Send(Channel* channel, wire::MessageType type, std::span<const std::byte> meta);
  static bool Receive(Channel* channel, wire::MessageType type, Answer* answer);

  const DataClientOptions options_;
  const Clock* const clock_;
  mutable std::mutex mu_;
  Uuid cluster_ = options_.cluster;               // guarded by mu_
  std::unordered_map<ServerId, Server> servers_;  // guarded by mu_
};

}  // namespace cairn::net

// The connection of a DataClient to one chunkserver: connects on demand, says Hello, numbers the requests,
// matches the replies, keeps the deadlines.
//
//   idle --Call--> connecting (name, TCP, Hello) --> ready --lost--> idle
//                       \--failed--> backoff (calls fail at once) --time--> idle
//
// Thread-safety: everything on the loop's thread, except load().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/net/data_client.h"
#include "common/net/event_loop.h"
#include "common/net/frame_connection.h"
#include "common/net/resolver.h"

namespace cairn::net {

class ServerLink final : public FrameConnection::Owner, public std::enable_shared_from_this<ServerLink> {
 public:
  ServerLink(EventLoop* loop, const DataClientOptions& options, Peer peer, std::shared_ptr<Resolver> resolver,
             std::shared_ptr<BufferPool> pool);
  ~ServerLink() override;

  void Call(wire::MessageType type, SharedBytes meta, SharedBytes data, int64_t deadline_ns,
            DataClient::Callback done);
  // Everything outstanding fails; the link can be used again.
  void Reset(const Status& why);

  const Peer& peer() const { return peer_; }
  DataClient::Load load() const;

  void OnFrame(FrameConnection& connection, Frame frame) override;
  void OnClosed(FrameConnection& connection, const Status& why) override;

 private:
  enum class State : uint8_t { kIdle, kConnecting, kHello, kReady };
  class Connecting;

  struct Request {
    wire::MessageType type;
    SharedBytes meta;  // until sent
    SharedBytes data;
    size_t bytes = 0;
    int64_t deadline_ns = 0;
    int64_t sent_ns = 0;  // 0: waits for the connection
    DataClient::Callback done;
  };

  void StartConnecting();
  void TryNextAddress();
  void OnConnected(uint64_t attempt, int error);
  void OnHelloReply(const Frame& frame);
  void AttemptFailed(Status why);
  void Disconnected();  // back to idle without touching requests
  void SendRequest(uint64_t id, Request& request);
  void Complete(uint64_t id, const Status& status, std::span<const std::byte> meta, SharedBytes data);
  void FailAll(const Status& why);
  void FailSoon(DataClient::Callback done, Status why);
  void ArmDeadline();
  void OnDeadline();
  Status Name(const Status& why) const;  // with server and address
  int64_t Now() const { return loop_->clock()->NowNanos(); }

  EventLoop* const loop_;
  const DataClientOptions options_;
  const Peer peer_;
  const std::shared_ptr<Resolver> resolver_;
  const std::shared_ptr<BufferPool> pool_;

  State state_ = State::kIdle;
  uint64_t attempt_ = 0;  // answers to earlier attempts are ignored
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  std::shared_ptr<Connecting> connecting_;
  std::shared_ptr<FrameConnection> connection_;
  EventLoop::TimerId connect_timer_ = 0;
  int64_t backoff_ms_ = 0;
  int64_t backoff_until_ns_ = 0;
  Status last_error_;

  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Request> requests_;
  std::vector<uint64_t> waiting_;  // not sent yet, in order
  std::set<std::pair<int64_t, uint64_t>> deadlines_;
  EventLoop::TimerId deadline_timer_ = 0;
  int64_t armed_ns_ = 0;

  std::atomic<size_t> outstanding_requests_{0};
  std::atomic<size_t> outstanding_bytes_{0};
  std::atomic<int64_t> smoothed_rtt_ns_{0};
  std::atomic<bool> ready_{false};
};

}  // namespace cairn::net

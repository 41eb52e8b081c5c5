// Listens for connections and hands them, round robin, to event loops.
//
// Bounds: at most `max_connections` at a time, and of them `max_connections_per_host` from one address, so that no single machine can
// take the places of all others; further ones are closed at once and counted. When the process
// runs out of descriptors it stops accepting for a moment instead of spinning.
//
// Thread-safety: Start and Stop on the accepting loop's thread or while it does not run; the rest from any
// thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/net/event_loop.h"
#include "common/net/socket.h"
#include "common/status.h"

namespace cairn::net {

class FrameServer {
 public:
  // Runs on the thread of `loop`, which shall serve the socket. The connection counts until `slot` is
  // dropped.
  using AcceptFn =
      std::function<void(EventLoop* loop, Socket socket, std::string peer, std::shared_ptr<void> slot)>;

  struct Options {
    size_t max_connections = 1024;
    size_t max_connections_per_host = SIZE_MAX;
    int backlog = 256;
    int socket_buffer_bytes = 4 << 20;
  };

  // `loops` is not empty; the first one accepts.
  FrameServer(std::vector<EventLoop*> loops, Options options, AcceptFn accept);
  ~FrameServer();
  FrameServer(const FrameServer&) = delete;
  FrameServer& operator=(const FrameServer&) = delete;

  // Binds every address of `where`; port 0 takes a free one, the same for all.
  Status Start(const HostPort& where);
  void Stop();  // closes the listeners; connections stay

  uint16_t port() const { return port_.load(); }
  size_t connections() const { return state_->connections.load(); }
  uint64_t refused() const { return state_->refused.load(); }  // for either reason
  // Of those refused since the last call, the host refused last for having too many; empty: none was.
  std::string TakeGreedyHost();

 private:
  struct State {
    std::atomic<size_t> connections{0};
    std::atomic<uint64_t> refused{0};
    std::mutex mu;
    std::unordered_map<std::string, size_t> by_host;  // guarded by mu
    std::string greedy;                               // guarded by mu
  };
  class Listener;

  void Accept(EventLoop* loop, Socket socket, const SocketAddress& from);
  bool TakePlace(const std::string& host);

  const std::vector<EventLoop*> loops_;
  const Options options_;
  const AcceptFn accept_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  std::vector<std::shared_ptr<Listener>> listeners_;
  size_t next_loop_ = 0;
  std::atomic<uint16_t> port_{0};
};

}  // namespace cairn::net

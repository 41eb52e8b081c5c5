// The master's one port. Clients and chunkservers speak frames (common/net/control_connection.h), administration gRPC: the first
// byte of a connection tells which, and a gRPC connection is handed on.
//
// Thread-safety: Start and Stop from one thread that is not the loop's; the functions given are called on the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/net/event_loop.h"
#include "common/net/frame_server.h"
#include "common/net/socket.h"

namespace cairn::master {

class ServicePort {
 public:
  struct Handlers {
    // The connection counts against the limit until `slot` is dropped.
    std::function<void(net::Socket socket, std::string peer, std::shared_ptr<void> slot)> session;
    std::function<void(net::Socket socket, std::string peer)> grpc;
  };

  ServicePort(net::EventLoop* loop, size_t max_connections, size_t max_connections_per_host, Handlers handlers);
  ~ServicePort();

  // kBusy with the reason when it cannot listen there.
  Status Start(const std::string& listen);
  void Stop();  // no new connections
  int port() const { return server_.port(); }
  // What was refused since the last call, for people; empty: nothing.
  std::string TakeRefused();

 private:
  class FirstByte;

  net::EventLoop* const loop_;
  const std::shared_ptr<const Handlers> handlers_;
  net::FrameServer server_;
  uint64_t refused_told_ = 0;
};

}  // namespace cairn::master

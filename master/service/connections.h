// What the master's port has open, with the bounds that keep one misbehaving machine from others' places and memory.
//
// Thread-safety: the core loop's thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/net/buffer_pool.h"
#include "common/net/control_connection.h"
#include "common/net/event_loop.h"
#include "common/net/slow_readers.h"
#include "common/net/socket.h"

namespace cairn::master {

class Core;

// Sessions and control streams. Once a second it ends those that only occupy a place: that say nothing, stop in the middle of a
// message, or do not read what is sent to them.
class SessionConnections {
 public:
  // Everything outlives it.
  SessionConnections(Core* core, net::EventLoop* loop, net::BufferPool* pool) : core_(core), loop_(loop), pool_(pool) {}
  void Serve(net::Socket socket, std::string peer, std::shared_ptr<void> slot);
  // `told`: what was refused at the port since the last call, for the log.
  void StartSweep(std::function<std::string()> told);
  void StopSweep();
  void CloseAll(const Status& why);

 private:
  void Sweep();
  std::shared_ptr<net::UnfinishedBudget> BudgetOf(const std::string& host);

  Core* const core_;
  net::EventLoop* const loop_;
  net::BufferPool* const pool_;
  std::function<std::string()> told_;
  net::EventLoop::TimerId timer_ = 0;
  std::vector<std::weak_ptr<net::ControlConnection>> connections_;
  std::unordered_map<std::string, std::weak_ptr<net::UnfinishedBudget>> budgets_;
};

// Connections that were handed to gRPC, which does not tell when they end: known by descriptor and inode of the socket.
class GrpcConnections {
 public:
  static constexpr size_t kMax = 512;
  static constexpr size_t kMaxPerHost = 128;

  // False: the host, or all together, have too many.
  bool Admit(const net::Socket& socket, const std::string& host);
  size_t size() const { return open_.size(); }

 private:
  struct Open {
    int fd;
    ino_t inode;
    std::string host;
  };
  std::vector<Open> open_;
};

}  // namespace cairn::master

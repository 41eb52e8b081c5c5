// Connections that speak frames: sessions of clients, and control streams of chunkservers, which say so with
// their first frame. Frames on one side, the core's inbox and channels on the other.
//
// Thread-safety: the loop's thread, which has to be the core's as well.
#pragma once

#include <memory>
#include <string>

#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "common/net/socket.h"

namespace cairn::net {
class ControlConnection;
struct UnfinishedBudget;
}

namespace cairn::master {

class Core;

// Serves one connection until it ends. `core`, `loop` and `pool` outlive it. `unfinished`: shared by the connections of its host.
std::shared_ptr<net::ControlConnection> ServeFrames(Core* core, net::EventLoop* loop, net::BufferPool* pool,
                                                    net::Socket socket, std::string peer,
                                                    std::shared_ptr<void> slot,
                                                    std::shared_ptr<net::UnfinishedBudget> unfinished);

}  // namespace cairn::master

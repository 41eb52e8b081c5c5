// The seam between the core thread and the network: what the core sends to, and what arrives in its queue.
// service/frame_service.cc implements the channels; tests implement them in memory.
//
// Thread-safety: Send and Close are called by the core thread only; implementations hand over to their own
// threads and never call back into the core except through EventQueue.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "common/ids.h"
#include "common/status.h"
#include "proto/cairn/cluster.pb.h"
#include "proto/cairn/session.pb.h"

namespace cairn::master {

class Core;

// One connected stream of a client.
class SessionChannel {
 public:
  virtual ~SessionChannel() = default;
  virtual void Send(proto::MasterMessage message) = 0;
  // Ends the stream with this status after what was sent.
  virtual void Close(const Status& status) = 0;
  // The core is done with one message of this stream; the next one may be read (bounds what waits in the
  // queue).
  virtual void Consumed() {}
  // The address of the machine at the other end, without a port; empty: not known, and not bounded.
  virtual std::string host() const { return {}; }
};

// One connected stream of a chunkserver.
class ServerChannel {
 public:
  virtual ~ServerChannel() = default;
  virtual void Send(proto::MasterToChunkserver message) = 0;
  virtual void Close(const Status& status) = 0;
  virtual void Consumed() {}
};

struct SessionMessageEvent {
  std::shared_ptr<SessionChannel> channel;
  std::shared_ptr<proto::ClientMessage> message;
};
struct SessionClosedEvent {
  std::shared_ptr<SessionChannel> channel;
};
struct ServerMessageEvent {
  std::shared_ptr<ServerChannel> channel;
  std::shared_ptr<proto::ChunkserverMessage> message;
};
struct ServerClosedEvent {
  std::shared_ptr<ServerChannel> channel;
};
// Anything else that must run on the core thread (administration).
struct CallEvent {
  std::function<void(Core&)> call;
};
using Event =
    std::variant<SessionMessageEvent, SessionClosedEvent, ServerMessageEvent, ServerClosedEvent, CallEvent>;

}  // namespace cairn::master

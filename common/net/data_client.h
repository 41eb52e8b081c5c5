// Requests to chunkservers over the data plane: one pipelined connection per server, shared by everything
// that runs in this process (writer, reader, copier).
//
//   EventLoopThread thread;                                        // common/net/event_loop.h
//   DataClient client(thread.loop(), {.cluster = id, .name = "mount"});
//   client.Call({server, "10.0.0.3:9410"}, wire::MessageType::kRead, SharedBytes::Own(wire::Encode(request)),
//   {},
//               clock->NowNanos() + 2 * kNanosPerSecond,
//               [](Status status, std::span<const std::byte> meta, SharedBytes data) { ... });
//
// The connection is made by the first call; its Hello is refused unless the peer belongs to the same cluster
// and is the expected server, so a recycled address cannot take chunks of somebody else. When a connection
// breaks, every outstanding request fails at once. Whether a request that was sent has been carried out is
// then unknown: mutations are numbered, so asking again is safe. After a failed attempt calls to that server
// fail at once with its reason until the backoff is over.
//
// Errors given to the callback, all naming server and address: kUnavailable (cannot connect, connection
// lost), kTimeout (no answer by the deadline), kWrongCluster, kVersionMismatch, kMalformed (the peer's bytes
// make no sense), kResourceExhausted (too much outstanding to this server), kCancelled (Disconnect or
// destruction). A reply that arrived gives kOk, also when the Status inside its meta is an error.
//
// Thread-safety: Call, SetCluster, Disconnect and Outstanding may be called from any thread; callbacks run on
// the loop's thread and must not block. Requests to one server arrive in the order of the calls, also when
// they come from different threads that order them by a lock. The object must be destroyed on the loop's
// thread, or after the loop has stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/ids.h"
#include "common/net/shared_bytes.h"
#include "common/status.h"
#include "common/wire/messages.h"

namespace cairn::net {

class BufferPool;
class EventLoop;

struct Peer {
  ServerId server;
  std::string address;  // "host:port"; see common/net/address.h
};

struct DataClientOptions {
  Uuid cluster;  // zero: accept any (tools at first contact)
  wire::PeerKind kind = wire::PeerKind::kClient;
  std::string name;                   // for the servers' logs
  int64_t connect_timeout_ms = 3000;  // TCP connect and Hello together
  int64_t backoff_min_ms = 50;        // doubles with every failed attempt up to backoff_max_ms
  int64_t backoff_max_ms = 2000;
  size_t max_outstanding_requests = 4096;     // per server
  size_t max_outstanding_bytes = 256u << 20;  // per server, meta and data of requests not answered yet
  int socket_buffer_bytes = 4 << 20;
  size_t pooled_receive_bytes = 64u << 20;  // receive buffers kept for reuse
};

class DataClient {
 public:
  // `meta` is valid during the call only; `data` may be kept (it occupies a pooled buffer until dropped).
  using Callback = std::function<void(Status, std::span<const std::byte> meta, SharedBytes data)>;

  DataClient(EventLoop* loop, DataClientOptions options);
  ~DataClient();  // outstanding requests fail with kCancelled
  DataClient(const DataClient&) = delete;
  DataClient& operator=(const DataClient&) = delete;

  // Sends a request. `deadline_ns` is a time of the loop's clock. A peer whose address has changed is
  // connected to anew. The callback runs exactly once, never inside Call itself.
  void Call(const Peer& peer, wire::MessageType type, SharedBytes meta, SharedBytes data, int64_t deadline_ns,
            Callback done);

  // In its scope the calls of this thread are gathered; at its end they leave together, and are sent by this thread itself if they
  // are small and the loop is idle, which saves waking it. No callback runs meanwhile. Let go of locks that callbacks take before the
  // end, and wait for nothing in the scope.
  class Gather {
   public:
    explicit Gather(DataClient* client);
    ~Gather();
    Gather(const Gather&) = delete;
    Gather& operator=(const Gather&) = delete;

   private:
    DataClient* const client_;
    void* const outer_;
  };

  // Carries out a small request on the calling thread, over a connection that is its own meanwhile (blocking_calls.h): one thread
  // is woken instead of three. In no order with other requests, and only for what may be asked again in another way: nothing is
  // said about why it failed. `use` runs before this returns, if the outcome is kAnswered; what it is given is valid meanwhile. Not
  // on the loop's thread.
  enum class Outcome : uint8_t {
    kAnswered,
    kNotTried,  // no connection is to be had now
    kFailed,    // no answer within `timeout_ms`, or the connection broke
  };
  Outcome CallBlocking(const Peer& peer, wire::MessageType type, std::span<const std::byte> meta, int64_t timeout_ms,
                       const std::function<void(std::span<const std::byte> meta, std::span<const std::byte> data)>& use);

  // The cluster that servers must belong to, when it becomes known only after construction. For connections
  // made from now on.
  void SetCluster(Uuid cluster);

  // Breaks the connection to `server`; everything outstanding there fails with kCancelled and `reason`.
  void Disconnect(ServerId server, std::string reason);

  struct Load {
    size_t requests = 0;
    size_t bytes = 0;             // meta and data of requests not answered yet
    int64_t smoothed_rtt_ns = 0;  // of answered requests; 0: none yet
    bool connected = false;
  };
  Load Outstanding(ServerId server) const;

  // Receive buffers; also usable for buffers to send.
  BufferPool& pool();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace cairn::net

// Seals of many files in few requests: what is to be sent to one server while somebody holds the gatherer leaves as one frame
// when the last hold is released. Without a hold everything leaves at once (a recall must not wait). Also remembers which servers
// keep those who hand files over waiting.
//
// Thread-safety: all methods may be called from any thread; answers come on the data plane's loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "client/data/server_directory.h"
#include "common/clock.h"
#include "common/net/data_client.h"
#include "common/wire/messages.h"

namespace cairn::client {

class SealGatherer {
 public:
  // `replies` has one item per item sent, in their order; empty when `status` is an error of all of them.
  using Done = std::function<void(const Status& status, std::span<const wire::ReplicaItem> replies)>;

  // `requests` counts the frames.
  SealGatherer(net::DataClient* client, std::atomic<uint64_t>* requests) : client_(client), requests_(requests) {}

  void Send(const net::Peer& peer, std::vector<wire::SealItem> items, int64_t deadline_ns, Done done);

  // A server that let everybody wait for its seal in vain: for a while nobody waits for it again.
  void NoteLate(ServerId server, int64_t now_ns);
  bool IsLate(ServerId server, int64_t now_ns) const;

  class Hold {
   public:
    explicit Hold(SealGatherer* gatherer) : gatherer_(gatherer) { gatherer_->AddHold(); }
    ~Hold() { gatherer_->ReleaseHold(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    SealGatherer* const gatherer_;
  };

 private:
  struct Part {
    size_t count = 0;
    Done done;
  };
  struct Batch {
    net::Peer peer;
    int64_t deadline_ns = 0;
    wire::SealRequest request;
    std::vector<Part> parts;
  };

  void AddHold();
  void ReleaseHold();
  void Leave(Batch batch);
  static void Answer(const std::vector<Part>& parts, const Status& transport, std::span<const std::byte> meta);

  net::DataClient* const client_;
  std::atomic<uint64_t>* const requests_;
  mutable std::mutex mu_;
  int holds_ = 0;                           // guarded by mu_
  std::map<ServerId, Batch> waiting_;       // guarded by mu_
  std::map<ServerId, int64_t> late_until_;  // guarded by mu_; one entry per server at most
};

}  // namespace cairn::client

#include "common/net/data_client.h"

#include <atomic>
#include <future>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/net/blocking_calls.h"
#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "common/net/resolver.h"
#include "common/net/server_link.h"

namespace cairn::net {
namespace {

// What is sent by the thread that asks: more would keep it from going on, and others from the loop.
constexpr size_t kMaxGatheredBytes = 256u << 10;

// Whose calls this thread gathers.
thread_local void* gathering = nullptr;

}  // namespace

class DataClient::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(EventLoop* loop, DataClientOptions options)
      : loop_(loop),
        options_(std::move(options)),
        pool_(std::make_shared<BufferPool>(options_.pooled_receive_bytes)),
        blocking_(options_, loop->clock()) {}

  EventLoop* loop() const { return loop_; }
  BufferPool& pool() { return *pool_; }

  struct Queued {
    Peer peer;
    wire::MessageType type;
    SharedBytes meta;
    SharedBytes data;
    int64_t deadline_ns = 0;
    Callback done;
  };

  // Requests leave in the order of these calls, whichever threads they come from: a call on the loop's thread
  // must not overtake what another thread handed over before.
  void Enqueue(Queued call) {
    const bool on_loop = loop_->InLoopThread();
    const bool gathered = gathering == this;
    bool post = false;
    {
      std::lock_guard lock(queue_mu_);
      queued_bytes_ += call.meta.size() + call.data.size();
      queue_.push_back(std::move(call));
      if (!on_loop && !gathered) post = !std::exchange(drain_posted_, true);
    }
    if (on_loop) {
      Drain();
    } else if (post) {
      PostDrain();
    }
  }

  void SendGathered() {
    bool small = false;
    {
      std::lock_guard lock(queue_mu_);
      if (queue_.empty() || drain_posted_) return;  // gone with somebody else's calls, or about to
      small = queued_bytes_ <= kMaxGatheredBytes;
    }
    if (small && loop_->TryRun([this] { Drain(); })) return;
    {
      std::lock_guard lock(queue_mu_);
      if (std::exchange(drain_posted_, true)) return;
    }
    PostDrain();
  }

  void Call(const Peer& peer, wire::MessageType type, SharedBytes meta, SharedBytes data, int64_t deadline_ns,
            Callback done) {
    if (closed_) {
      loop_->Defer(
          [done = std::move(done)] { done(Status(StatusCode::kCancelled, "the client is closed"), {}, {}); });
      return;
    }
    LinkTo(peer)->Call(type, std::move(meta), std::move(data), deadline_ns, std::move(done));
  }

  Outcome CallBlocking(const Peer& peer, wire::MessageType type, std::span<const std::byte> meta, int64_t timeout_ms,
                       const BlockingCalls::Use& use) {
    if (!sweeping_.exchange(true)) {
      loop_->Post([self = shared_from_this()] { self->SweepLater(); });
    }
    return blocking_.Call(peer, type, meta, timeout_ms, use);
  }

  void SetCluster(Uuid cluster) {
    options_.cluster = cluster;
    blocking_.SetCluster(cluster);
  }

  void Disconnect(ServerId server, const std::string& reason) {
    const std::shared_ptr<ServerLink> link = Find(server);
    if (link)
      link->Reset(
          Status(StatusCode::kCancelled, "connection to " + ToString(server) + " given up: " + reason));
  }

  void Close() {
    closed_ = true;
    blocking_.CloseAll();
    std::unordered_map<Key, std::shared_ptr<ServerLink>, KeyHash> links;
    {
      std::lock_guard lock(mu_);
      links.swap(links_);
    }
    for (const auto& [key, link] : links) {
      link->Reset(Status(StatusCode::kCancelled, "request to " + ToString(link->peer().server) + " at " +
                                                     link->peer().address + " cancelled: shutting down"));
    }
  }

  Load OutstandingAt(ServerId server) {
    const std::shared_ptr<ServerLink> link = Find(server);
    return link ? link->load() : Load{};
  }

 private:
  // Connections that nobody uses any more are closed.
  void SweepLater() {
    loop_->AddTimer(loop_->clock()->NowNanos() + BlockingCalls::kIdleNanos, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || self->closed_) return;
      self->sweeping_ = false;
      if (self->blocking_.SweepIdle() && !self->sweeping_.exchange(true)) self->SweepLater();
    });
  }

  void PostDrain() {
    loop_->Post([self = shared_from_this()] {
      {
        std::lock_guard lock(self->queue_mu_);
        self->drain_posted_ = false;
      }
      self->Drain();
    });
  }

  void Drain() {
    for (;;) {
      std::vector<Queued> calls;
      {
        std::lock_guard lock(queue_mu_);
        if (queue_.empty()) return;
        calls.swap(queue_);
        queued_bytes_ = 0;
      }
      for (Queued& call : calls) {
        Call(call.peer, call.type, std::move(call.meta), std::move(call.data), call.deadline_ns,
             std::move(call.done));
      }
    }
  }

  // Servers without a known id (first contact of a tool) are told apart by address.
  struct Key {
    ServerId server;
    std::string address;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<ServerId>()(key.server) ^ std::hash<std::string>()(key.address);
    }
  };
  static Key KeyOf(const Peer& peer) {
    return peer.server ? Key{peer.server, {}} : Key{ServerId{}, peer.address};
  }

  std::shared_ptr<ServerLink> Find(ServerId server) {
    std::lock_guard lock(mu_);
    const auto found = links_.find(Key{server, {}});
    return found == links_.end() ? nullptr : found->second;
  }

  std::shared_ptr<ServerLink> LinkTo(const Peer& peer) {
    std::shared_ptr<ServerLink> old;
    std::shared_ptr<ServerLink> link;
    {
      std::lock_guard lock(mu_);
      std::shared_ptr<ServerLink>& slot = links_[KeyOf(peer)];
      if (slot && slot->peer().address == peer.address) return slot;
      old = std::move(slot);
      slot = link = std::make_shared<ServerLink>(loop_, options_, peer, resolver_, pool_);
    }
    if (old) {
      // Inside a Call no callback may run.
      loop_->Defer([old, address = peer.address] {
        old->Reset(Status(StatusCode::kUnavailable, ToString(old->peer().server) + " moved from " +
                                                        old->peer().address + " to " + address));
      });
    }
    return link;
  }

  EventLoop* const loop_;
  DataClientOptions options_;  // the cluster changes, on the loop's thread only
  const std::shared_ptr<Resolver> resolver_ = std::make_shared<Resolver>();
  const std::shared_ptr<BufferPool> pool_;
  BlockingCalls blocking_;
  std::atomic<bool> sweeping_{false};  // a sweep of its idle connections is due
  bool closed_ = false;                // of the loop's thread

  std::mutex queue_mu_;
  std::vector<Queued> queue_;  // guarded by queue_mu_; calls on their way to the loop
  size_t queued_bytes_ = 0;    // guarded by queue_mu_
  bool drain_posted_ = false;  // guarded by queue_mu_

  std::mutex mu_;
  std::unordered_map<Key, std::shared_ptr<ServerLink>, KeyHash>
      links_;  // guarded by mu_; changed on the loop only
};

DataClient::DataClient(EventLoop* loop, DataClientOptions options)
    : impl_(std::make_shared<Impl>(loop, std::move(options))) {}

DataClient::~DataClient() {
  EventLoop* loop = impl_->loop();
  if (loop->InLoopThread() || !loop->Running()) {
    impl_->Close();
    return;
  }
  std::promise<void> closed;
  loop->Post([this, &closed] {
    impl_->Close();
    closed.set_value();
  });
  closed.get_future().wait();
}

DataClient::Gather::Gather(DataClient* client)
    : client_(client), outer_(std::exchange(gathering, client->impl_.get())) {}

DataClient::Gather::~Gather() {
  gathering = outer_;
  if (outer_ != client_->impl_.get()) client_->impl_->SendGathered();
}

void DataClient::Call(const Peer& peer, wire::MessageType type, SharedBytes meta, SharedBytes data,
                      int64_t deadline_ns, Callback done) {
  impl_->Enqueue({peer, type, std::move(meta), std::move(data), deadline_ns, std::move(done)});
}

DataClient::Outcome DataClient::CallBlocking(
    const Peer& peer, wire::MessageType type, std::span<const std::byte> meta, int64_t timeout_ms,
    const std::function<void(std::span<const std::byte> meta, std::span<const std::byte> data)>& use) {
  return impl_->CallBlocking(peer, type, meta, timeout_ms, use);
}

void DataClient::SetCluster(Uuid cluster) {
  impl_->loop()->Post([impl = impl_, cluster] { impl->SetCluster(cluster); });
}

void DataClient::Disconnect(ServerId server, std::string reason) {
  impl_->loop()->Post(
      [impl = impl_, server, reason = std::move(reason)] { impl->Disconnect(server, reason); });
}

DataClient::Load DataClient::Outstanding(ServerId server) const { return impl_->OutstandingAt(server); }

BufferPool& DataClient::pool() { return impl_->pool(); }

}  // namespace cairn::net

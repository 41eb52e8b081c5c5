#include "client/data/seal_gatherer.h"

#include <algorithm>
#include <string>
#include <utility>

namespace cairn::client {
namespace {

constexpr int64_t kLateNanos = 5 * kNanosPerSecond;

}  // namespace

void SealGatherer::NoteLate(ServerId server, int64_t now_ns) {
  std::lock_guard lock(mu_);
  late_until_[server] = now_ns + kLateNanos;
}

bool SealGatherer::IsLate(ServerId server, int64_t now_ns) const {
  std::lock_guard lock(mu_);
  const auto late = late_until_.find(server);
  return late != late_until_.end() && now_ns < late->second;
}

void SealGatherer::AddHold() {
  std::lock_guard lock(mu_);
  ++holds_;
}

void SealGatherer::ReleaseHold() {
  std::map<ServerId, Batch> leaving;
  {
    std::lock_guard lock(mu_);
    if (--holds_ == 0) leaving.swap(waiting_);
  }
  for (auto& [server, batch] : leaving) Leave(std::move(batch));
}

void SealGatherer::Send(const net::Peer& peer, std::vector<wire::SealItem> items, int64_t deadline_ns, Done done) {
  std::vector<Batch> leaving;
  {
    std::lock_guard lock(mu_);
    Batch& batch = waiting_[peer.server];
    const bool moved = !batch.parts.empty() && batch.peer.address != peer.address;
    if (moved || batch.request.items.size() + items.size() > wire::kMaxBatchItems) {
      leaving.push_back(std::exchange(batch, {}));
    }
    batch.peer = peer;
    batch.deadline_ns = std::max(batch.deadline_ns, deadline_ns);
    batch.parts.push_back({items.size(), std::move(done)});
    batch.request.items.insert(batch.request.items.end(), items.begin(), items.end());
    if (holds_ == 0) {
      leaving.push_back(std::move(batch));
      waiting_.erase(peer.server);
    }
  }
  for (Batch& batch : leaving) Leave(std::move(batch));
}

void SealGatherer::Leave(Batch batch) {
  requests_->fetch_add(1, std::memory_order_relaxed);
  client_->Call(batch.peer, wire::MessageType::kSeal, net::SharedBytes::Own(wire::Encode(batch.request)), {},
                batch.deadline_ns,
                [parts = std::move(batch.parts)](const Status& transport, std::span<const std::byte> meta,
                                                 const net::SharedBytes&) { Answer(parts, transport, meta); });
}

void SealGatherer::Answer(const std::vector<Part>& parts, const Status& transport, std::span<const std::byte> meta) {
  Result<wire::BatchReply> reply = transport.ok() ? wire::DecodeBatchReply(meta) : transport;
  Status status = reply.ok() ? reply->status : reply.status();
  size_t expected = 0;
  for (const Part& part : parts) expected += part.count;
  if (status.ok() && reply->items.size() != expected) {
    status = Status(StatusCode::kMalformed, "a chunkserver did not answer every item of a seal");
  }
  size_t at = 0;
  for (const Part& part : parts) {
    if (status.ok()) {
      part.done(status, std::span<const wire::ReplicaItem>(reply->items).subspan(at, part.count));
    } else {
      part.done(status, {});
    }
    at += part.count;
  }
}

}  // namespace cairn::client

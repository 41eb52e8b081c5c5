#include "tests/chunkserver/data_node.h"

#include <future>
#include <random>

#include "common/check.h"
#include "common/checksum.h"

namespace cairn::chunkserver {

using wire::MessageType;

std::vector<std::byte> Pattern(size_t bytes, uint64_t seed) {
  std::vector<std::byte> data(bytes);
  std::mt19937_64 random(seed);
  for (auto& byte : data) byte = std::byte(random());
  return data;
}

wire::MutateRequest WriteRequest(ChunkId chunk, Stamp stamp, std::optional<Stamp> begin, uint64_t offset,
                                 const std::vector<std::byte>& data) {
  wire::MutateRequest request;
  request.mutation.chunk = chunk;
  request.mutation.epoch = stamp.epoch;
  request.mutation.seq = stamp.seq;
  request.mutation.begin = begin;
  request.mutation.offset = offset;
  request.mutation.length = data.size();
  request.checksums = ChecksumRange(chunk, offset, data);
  return request;
}

Caller::Caller(net::Peer peer, Uuid cluster)
    : peer_(std::move(peer)), client_(loop_.loop(), {.cluster = cluster, .name = "test"}) {}

std::future<Caller::Reply> Caller::Send(MessageType type, wire::Bytes meta, std::vector<std::byte> data,
                                        int64_t timeout_ms) {
  auto promise = std::make_shared<std::promise<Reply>>();
  client_.Call(peer_, type, net::SharedBytes::Own(std::move(meta)), net::SharedBytes::Own(std::move(data)),
               SystemClock::Get()->NowNanos() + timeout_ms * kNanosPerMilli,
               [promise](Status status, std::span<const std::byte> reply, net::SharedBytes bytes) {
                 promise->set_value({std::move(status), {reply.begin(), reply.end()}, std::move(bytes)});
               });
  return promise->get_future();
}

Result<wire::MutateReply> Caller::Mutate(const wire::MutateRequest& request, std::vector<std::byte> data) {
  const Reply reply = Send(MessageType::kMutate, wire::Encode(request), std::move(data)).get();
  CAIRN_RETURN_IF_ERROR(reply.status);
  return wire::DecodeMutateReply(reply.meta);
}

Result<std::pair<wire::ReadReply, std::vector<std::byte>>> Caller::Read(const wire::ReadRequest& request) {
  const Reply reply = Send(MessageType::kRead, wire::Encode(request)).get();
  CAIRN_RETURN_IF_ERROR(reply.status);
  CAIRN_ASSIGN_OR_RETURN(wire::ReadReply read, wire::DecodeReadReply(reply.meta));
  return std::pair(std::move(read), std::vector<std::byte>(reply.data.bytes.begin(), reply.data.bytes.end()));
}

Result<wire::BatchReply> Caller::Batch(MessageType type, wire::Bytes meta) {
  const Reply reply = Send(type, std::move(meta)).get();
  CAIRN_RETURN_IF_ERROR(reply.status);
  return wire::DecodeBatchReply(reply.meta);
}

Result<wire::BatchReply> Caller::Seal(const wire::SealRequest& request) {
  return Batch(MessageType::kSeal, wire::Encode(request));
}
Result<wire::BatchReply> Caller::Begin(const wire::BeginRequest& request) {
  return Batch(MessageType::kBegin, wire::Encode(request));
}
Result<wire::BatchReply> Caller::Query(const wire::QueryRequest& request) {
  return Batch(MessageType::kQuery, wire::Encode(request));
}
Result<wire::BatchReply> Caller::Flush(const wire::FlushRequest& request) {
  return Batch(MessageType::kFlush, wire::Encode(request));
}

Result<wire::DigestsReply> Caller::Digests(const wire::DigestsRequest& request) {
  const Reply reply = Send(MessageType::kDigests, wire::Encode(request)).get();
  CAIRN_RETURN_IF_ERROR(reply.status);
  return wire::DecodeDigestsReply(reply.meta);
}

std::unique_ptr<DiskSet> MemoryDisks(size_t count, std::vector<MemoryStore*>* stores) {
  std::vector<Disk> disks;
  for (size_t i = 0; i < count; ++i) {
    auto store = std::make_unique<MemoryStore>();
    stores->push_back(store.get());
    Disk disk;
    disk.path = "/disk" + std::to_string(i);
    disk.store = std::move(store);
    disks.push_back(std::move(disk));
  }
  Result<std::unique_ptr<DiskSet>> set = DiskSet::Make(std::move(disks));
  CAIRN_CHECK(set.ok(), set.status().ToString());
  return *std::move(set);
}

DataNode::DataNode(ServerId server, size_t disks, DataServiceOptions options, Uuid cluster)
    : server_(server),
      disks_(MemoryDisks(disks, &stores_)),
      identity_({cluster, server, Uuid::Random(), Uuid::Random(), 1}) {
  service_ = std::make_unique<DataService>(std::vector{loops_[0].loop(), loops_[1].loop()}, disks_.get(),
                                           &identity_, &readers_, damage_sink(), options);
  const Status status = service_->Start({"127.0.0.1", 0});
  CAIRN_CHECK(status.ok(), status.ToString());
}

DataNode::~DataNode() {
  for (MemoryStore* store : stores_) store->HoldFlushes(false);
  service_->Stop();
  readers_.Stop();
  disks_.reset();
  for (auto& loop : loops_) loop.Stop();
}

std::vector<Damage> DataNode::damages() {
  std::lock_guard lock(mu_);
  return damages_;
}

DamageSink DataNode::damage_sink() {
  return [this](ChunkId chunk, uint64_t offset, uint64_t, const std::string&) {
    std::lock_guard lock(mu_);
    damages_.push_back({chunk, offset});
  };
}

}  // namespace cairn::chunkserver

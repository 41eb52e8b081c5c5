#include "tests/client/data/fake_chunkserver.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/checksum.h"

namespace cairn::client::testing {

using replication::Action;
using replication::MutationKind;
using replication::Verdict;
using wire::MessageType;

namespace {

void Rechecksum(ChunkId chunk, FakeReplica& replica) {
  replica.checksums.clear();
  for (size_t at = 0; at < replica.bytes.size(); at += kBlockBytes) {
    const size_t n = std::min<size_t>(kBlockBytes, replica.bytes.size() - at);
    replica.checksums.push_back(
        BlockChecksum(chunk, at / kBlockBytes, std::span(replica.bytes).subspan(at, n)));
  }
}

}  // namespace

FakeChunkserver::FakeChunkserver(ServerId id) : id_(id) { Start(); }

FakeChunkserver::~FakeChunkserver() { Kill(); }

void FakeChunkserver::Start() {
  std::lock_guard lock(server_mu_);
  server_ = std::make_unique<net::TestServer>(
      [this](net::FrameConnection& connection, net::Frame frame) { OnFrame(connection, std::move(frame)); });
  CAIRN_CHECK(server_->status().ok(), server_->status().ToString());
}

void FakeChunkserver::Kill() {
  std::lock_guard lock(server_mu_);
  server_.reset();
  std::lock_guard inner(mu_);
  held_.clear();
}

bool FakeChunkserver::running() {
  std::lock_guard lock(server_mu_);
  return server_ != nullptr;
}

size_t FakeChunkserver::connections() {
  std::lock_guard lock(server_mu_);
  return server_ ? server_->server().connections() : 0;
}

std::string FakeChunkserver::address() {
  std::lock_guard lock(server_mu_);
  return server_ == nullptr ? "127.0.0.1:1" : server_->address();
}

void FakeChunkserver::BreakConnections() {
  std::lock_guard lock(server_mu_);
  server_->CloseAll();
}

void FakeChunkserver::Hold() {
  std::lock_guard lock(mu_);
  holding_ = true;
}

void FakeChunkserver::Release() {
  std::lock_guard lock(server_mu_);
  if (server_ == nullptr) return;
  server_->RunOnLoop([this] {
    std::deque<Held> held;
    {
      std::lock_guard inner(mu_);
      holding_ = false;
      held.swap(held_);
    }
    for (Held& each : held) {
      if (auto connection = each.connection.lock())
        Answer(*connection, each.type, each.id, each.meta, each.data);
    }
  });
}

size_t FakeChunkserver::held() {
  std::lock_guard lock(mu_);
  return held_.size();
}

void FakeChunkserver::Refuse(MessageType type, Status status) {
  std::lock_guard lock(mu_);
  if (status.ok()) {
    refused_.erase(type);
  } else {
    refused_.insert_or_assign(type, std::move(status));
  }
}

std::optional<FakeReplica> FakeChunkserver::Find(ChunkId chunk) {
  std::lock_guard lock(mu_);
  auto found = replicas_.find(chunk);
  if (found == replicas_.end()) return std::nullopt;
  return found->second;
}

void FakeChunkserver::Put(ChunkId chunk, FakeReplica replica) {
  std::lock_guard lock(mu_);
  Rechecksum(chunk, replica);
  replicas_[chunk] = std::move(replica);
}

bool FakeChunkserver::Fence(ChunkId chunk, Epoch epoch, FakeReplica* now) {
  std::lock_guard lock(mu_);
  FakeReplica& replica = replicas_[chunk];
  const Verdict verdict = replication::CheckFence(replica.state, epoch);
  if (verdict.action == Action::kRefuse) return false;
  if (verdict.action == Action::kApply) replica.state = verdict.next;
  *now = replica;
  return true;
}

void FakeChunkserver::Corrupt(ChunkId chunk, uint64_t offset) {
  std::lock_guard lock(mu_);
  replicas_.at(chunk).bytes.at(offset) ^= std::byte{0x10};
}

std::map<MessageType, int> FakeChunkserver::requests() {
  std::lock_guard lock(mu_);
  return requests_;
}

void FakeChunkserver::OnFrame(net::FrameConnection& connection, net::Frame frame) {
  if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
    net::TestServer::AnswerHello(connection, frame, kTestCluster, id_);
    return;
  }
  {
    std::lock_guard lock(mu_);
    ++requests_[static_cast<MessageType>(frame.header.type)];
    if (holding_) {
      held_.push_back({connection.weak_from_this(), frame.header.type, frame.header.request_id,
                       std::vector(frame.meta.begin(), frame.meta.end()), frame.data});
      return;
    }
  }
  if (delay_ms_ != 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_));
  Answer(connection, frame.header.type, frame.header.request_id, frame.meta, frame.data);
}

replication::ReplicaInfo FakeChunkserver::Info(ChunkId chunk) {
  const FakeReplica& replica = replicas_[chunk];
  return {.chunk = chunk,
          .promised = replica.state.promised,
          .accepted = replica.state.accepted,
          .durable = replica.durable,
          .length = replica.state.length,
          .sealed = replica.state.sealed,
          .tombstone = replica.state.tombstone};
}

wire::MutateReply FakeChunkserver::Mutate(const wire::MutateRequest& request,
                                          std::span<const std::byte> data) {
  const replication::Mutation& mutation = request.mutation;
  FakeReplica& replica = replicas_[mutation.chunk];
  if (mutation.kind == MutationKind::kWrite &&
      (request.checksums.size() != BlocksTouched(mutation.offset, data.size()) ||
       data.size() != mutation.length ||
       FirstBadBlock(mutation.chunk, mutation.offset, data, request.checksums) >= 0)) {
    ++bad_checksums_;
    return {Status(StatusCode::kCorrupt, "the payload does not match its checksums"), Info(mutation.chunk)};
  }
  const Verdict verdict = replication::CheckMutation(replica.state, mutation);
  if (verdict.action == Action::kRefuse) return {verdict.status, Info(mutation.chunk)};
  if (verdict.action == Action::kApply) {
    const uint64_t end = mutation.offset + mutation.length;
    uint64_t length = replica.bytes.size();
    if (mutation.kind == MutationKind::kWrite) {
      length = std::max(length, end);
      replica.bytes.resize(length);
      std::copy(data.begin(), data.end(), replica.bytes.begin() + static_cast<ptrdiff_t>(mutation.offset));
    } else if (mutation.kind == MutationKind::kTruncate) {
      length = mutation.offset;
      replica.bytes.resize(length);
    } else {
      const uint64_t from = std::min(mutation.offset, length), to = std::min(end, length);
      std::fill(replica.bytes.begin() + static_cast<ptrdiff_t>(from),
                replica.bytes.begin() + static_cast<ptrdiff_t>(to), std::byte{0});
    }
    replica.state = verdict.next;
    replica.state.length = length;
    Rechecksum(mutation.chunk, replica);
  }
  return {Status::Ok(), Info(mutation.chunk)};
}

wire::ReadReply FakeChunkserver::Read(const wire::ReadRequest& request, std::vector<std::byte>* data) {
  auto found = replicas_.find(request.chunk);
  if (found == replicas_.end()) return {.status = Status(StatusCode::kUnknownChunk, "no such chunk here")};
  const FakeReplica& replica = found->second;
  wire::ReadReply reply;
  reply.status = replication::CheckRead(replica.state, request.want, request.exact);
  reply.stamp = replica.state.accepted;
  reply.chunk_length = replica.bytes.size();
  reply.offset = request.offset / kBlockBytes * kBlockBytes;
  if (!reply.status.ok() || request.offset >= replica.bytes.size()) return reply;
  const uint64_t blocks_end = (request.offset + request.length + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  const uint64_t end = std::min<uint64_t>(blocks_end, replica.bytes.size());
  data->assign(replica.bytes.begin() + static_cast<ptrdiff_t>(reply.offset),
               replica.bytes.begin() + static_cast<ptrdiff_t>(end));
  for (uint64_t block = reply.offset / kBlockBytes; block * kBlockBytes < end; ++block) {
    reply.checksums.push_back(replica.checksums[block]);
  }
  read_bytes_ += data->size();
  return reply;
}

// Blocks of zeros are holes.
wire::ExtentsReply FakeChunkserver::Extents(const wire::ExtentsRequest& request) {
  auto found = replicas_.find(request.chunk);
  if (found == replicas_.end()) return {.status = Status(StatusCode::kUnknownChunk, "no such chunk here")};
  const FakeReplica& replica = found->second;
  wire::ExtentsReply reply{.status = replication::CheckRead(replica.state, request.want, request.exact),
                           .chunk_length = replica.bytes.size(),
                           .complete_to = replica.bytes.size()};
  if (!reply.status.ok()) return reply;
  for (uint64_t at = 0; at < replica.bytes.size(); at += kBlockBytes) {
    const auto block = std::span(replica.bytes).subspan(at, std::min<uint64_t>(kBlockBytes, replica.bytes.size() - at));
    if (at + block.size() <= request.offset) continue;
    if (std::all_of(block.begin(), block.end(), [](std::byte byte) { return byte == std::byte{0}; })) continue;
    if (!reply.ranges.empty() && reply.ranges.back().offset + reply.ranges.back().length == at) {
      reply.ranges.back().length += block.size();
    } else {
      reply.ranges.push_back({at, block.size()});
    }
  }
  return reply;
}

wire::StageReply FakeChunkserver::Stage(const wire::StageRequest& request) {
  auto found = replicas_.find(request.source);
  if (found == replicas_.end()) return {.status = Status(StatusCode::kUnavailable, "no carrier could be asked")};
  const FakeReplica& replica = found->second;
  if (Status status = replication::CheckRead(replica.state, request.want, true); !status.ok()) return {.status = std::move(status)};
  if (request.source_offset + request.length > replica.bytes.size())
    return {.status = Status(StatusCode::kInvalidArgument, "beyond the chunk")};
  const auto bytes = std::span(replica.bytes).subspan(request.source_offset, request.length);
  wire::StageReply reply{.token = next_token_++, .checksums = ChecksumRange(request.chunk, request.offset, bytes)};
  if (stage_wrong_) reply.checksums.front() ^= 1;
  staged_[reply.token].assign(bytes.begin(), bytes.end());
  return reply;
}

wire::MutateReply FakeChunkserver::MutateStaged(const wire::MutateStagedRequest& request) {
  const auto found = staged_.find(request.token);
  if (found == staged_.end())
    return {Status(StatusCode::kNotFound, "nothing is staged under this token"), Info(request.mutate.mutation.chunk)};
  wire::MutateReply reply = Mutate(request.mutate, found->second);
  if (reply.status.code() != StatusCode::kSequenceGap) staged_.erase(found);
  return reply;
}

void FakeChunkserver::ForgetStaged() {
  std::lock_guard lock(mu_);
  staged_.clear();
}

size_t FakeChunkserver::staged() {
  std::lock_guard lock(mu_);
  return staged_.size();
}

template <typename Item, typename Check>
wire::BatchReply FakeChunkserver::Batch(const std::vector<Item>& items, Check check) {
  wire::BatchReply reply;
  for (const Item& item : items) {
    auto [chunk, verdict] = check(item);
    if (verdict.action == Action::kApply) replicas_[chunk].state = verdict.next;
    reply.items.push_back({verdict.action == Action::kRefuse ? verdict.status : Status::Ok(), Info(chunk)});
  }
  return reply;
}

void FakeChunkserver::Answer(net::FrameConnection& connection, uint8_t type, uint64_t id,
                             std::span<const std::byte> meta, const net::SharedBytes& data) {
  std::lock_guard lock(mu_);
  std::vector<std::byte> answer_data;
  wire::Bytes answer;
  auto refused = refused_.find(static_cast<MessageType>(type));
  const bool refuse = refused != refused_.end();
  switch (static_cast<MessageType>(type)) {
    case MessageType::kMutate: {
      auto request = wire::DecodeMutateRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(refuse ? wire::MutateReply{refused->second, Info(request->mutation.chunk)}
                                   : Mutate(*request, data.bytes));
      break;
    }
    case MessageType::kRead: {
      auto request = wire::DecodeReadRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer =
          wire::Encode(refuse ? wire::ReadReply{.status = refused->second} : Read(*request, &answer_data));
      break;
    }
    case MessageType::kFlush: {
      auto request = wire::DecodeFlushRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(Batch(request->chunks, [&](ChunkId chunk) {
        Verdict verdict{.action = refuse ? Action::kRefuse : Action::kDuplicate};
        if (refuse)
          verdict.status = refused->second;
        else
          replicas_[chunk].durable = replicas_[chunk].state.accepted;
        return std::pair(chunk, verdict);
      }));
      break;
    }
    case MessageType::kSeal: {
      auto request = wire::DecodeSealRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(Batch(request->items, [&](const wire::SealItem& item) {
        Verdict verdict = replication::CheckSeal(replicas_[item.chunk].state, item.stamp);
        if (refuse) verdict = {.action = Action::kRefuse, .status = refused->second};
        return std::pair(item.chunk, verdict);
      }));
      break;
    }
    case MessageType::kExtents: {
      auto request = wire::DecodeExtentsRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(refuse ? wire::ExtentsReply{.status = refused->second} : Extents(*request));
      break;
    }
    case MessageType::kStage: {
      auto request = wire::DecodeStageRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(refuse ? wire::StageReply{.status = refused->second} : Stage(*request));
      break;
    }
    case MessageType::kMutateStaged: {
      auto request = wire::DecodeMutateStagedRequest(meta);
      CAIRN_CHECK(request.ok(), request.status().ToString());
      answer = wire::Encode(refuse ? wire::MutateReply{refused->second, Info(request->mutate.mutation.chunk)}
                                   : MutateStaged(*request));
      break;
    }
    default:
      CAIRN_CHECK(false, "unexpected message");
  }
  connection.Send(type | wire::kReplyBit, id, net::SharedBytes::Own(std::move(answer)),
                  answer_data.empty() ? net::SharedBytes{} : net::SharedBytes::Own(std::move(answer_data)));
}

}  // namespace cairn::client::testing

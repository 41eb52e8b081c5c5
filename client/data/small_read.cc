// FileCore: a small read that nothing here can answer, carried out by the caller's thread itself.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/wire/read_reply.h"

namespace cairn::client {
namespace {

constexpr size_t kSmallReadBytes = 64u << 10;
// As long as the other way waits before it asks a second carrier.
constexpr int64_t kSmallReadMs = 100;

}  // namespace

// Nothing: to be read the usual way, which asks every carrier and reports those that are not as they should
// be.
std::optional<Status> FileCore::ReadSmallLocked(Lock& lock, uint64_t offset, std::span<std::byte> out) {
  const uint64_t in_chunk = offset % chunk_bytes_;
  const uint64_t end = in_chunk + out.size();
  if (out.size() > kSmallReadBytes || end > chunk_bytes_) return std::nullopt;
  if (cache_.Find(offset) != nullptr || cache_.NextStart(offset, offset + out.size()) < offset + out.size())
    return std::nullopt;
  const auto found = chunks_.find(offset / chunk_bytes_);
  if (found == chunks_.end() || !found->second->place_known) return std::nullopt;
  const ChunkState& chunk = *found->second;
  if (chunk.dirty.Overlaps(in_chunk, out.size()) || chunk.log.Overlaps(in_chunk, out.size()))
    return std::nullopt;
  const Result<Source> source = SourceLocked(chunk);
  if (!source.ok() || source->kind != Source::kReplicas || end > source->length) return std::nullopt;
  if (source->servers.empty()) return std::nullopt;
  const std::vector<ServerId> servers = source->servers;
  const ServerId server = RankLocked(servers, chunk.place.chunk).front();
  std::optional<ServerEntry> entry = context_.servers->Find(server);
  if (!entry || !entry->alive || entry->address.empty()) return std::nullopt;

  const wire::ReadRequest request{.chunk = chunk.place.chunk,
                                  .want = source->want,
                                  .exact = source->exact,
                                  .offset = in_chunk,
                                  .length = static_cast<uint32_t>(out.size())};
  const uint64_t attachment = attachment_;
  ++background_;  // Shutdown waits
  lock.unlock();
  Status status;
  const auto use = [&](std::span<const std::byte> meta, std::span<const std::byte> data) {
    const Result<wire::ReadReply> reply = wire::DecodeReadReply(meta);
    status = reply.ok() ? wire::CheckReadReply(request.chunk, in_chunk, out.size(), *reply, data) : reply.status();
    if (!status.ok()) return;
    const size_t skip = in_chunk - reply->offset;
    const size_t have = std::min(out.size(), data.size() - std::min(skip, data.size()));
    if (have != 0) std::memcpy(out.data(), data.data() + skip, have);
    std::memset(out.data() + have, 0, out.size() - have);
  };
  ++context_.counters->requests;
  const int64_t began_ns = Now();
  const auto outcome =
      context_.data_client->CallBlocking({server, std::move(entry->address)}, wire::MessageType::kRead,
                                         wire::Encode(request), kSmallReadMs, use);
  if (outcome == net::DataClient::Outcome::kNotTried) --context_.counters->requests;
  lock.lock();
  if (--background_ == 0 && shut_down_) changed_.notify_all();
  if (outcome == net::DataClient::Outcome::kFailed) {
    SuspectLocked(server);
    context_.servers->trust().Disappointed(server, Now());
  } else if (outcome == net::DataClient::Outcome::kAnswered) {
    NoteAnswer(server, servers, Now() - began_ns);
  }
  if (outcome != net::DataClient::Outcome::kAnswered || !status.ok()) return std::nullopt;
  if (attachment != attachment_) return Status(StatusCode::kLeaseLost, "the lease was given back meanwhile");
  return Status::Ok();
}

}  // namespace cairn::client

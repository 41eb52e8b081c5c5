// FileCore: one verified read of a range of a chunk, from whichever carrier delivers it.
#include <algorithm>
#include <string>
#include <utility>

#include "client/data/file_core.h"
#include "common/wire/read_reply.h"
#include "common/log.h"

namespace cairn::client {
namespace {

using replication::MemberProblem;
using replication::ReadCandidate;
using wire::MessageType;

// Asking a second carrier costs a whole transfer: only for answers far outside of what is usual.
constexpr int64_t kHedgeAtLeastNanos = 100 * kNanosPerMilli;
constexpr int64_t kHedgeUsualTimes = 8;
constexpr int64_t kLateAtLeastNanos = 20 * kNanosPerMilli;
constexpr uint32_t kSmallBytes = 64u << 10;
constexpr uint32_t kMaxHedges = 2;  // two silent replicas of three must not keep a reader from the third
constexpr int64_t kAskTimeoutMs = 5000;
constexpr int64_t kSuspectNanos = 5 * kNanosPerSecond;

}  // namespace

std::vector<ServerId> FileCore::RankLocked(const std::vector<ServerId>& servers, ChunkId chunk) const {
  std::vector<ReadCandidate> candidates;
  candidates.reserve(servers.size());
  const int64_t now = Now();
  for (ServerId server : servers) {
    ReadCandidate candidate{.server = server};
    if (const std::optional<ServerEntry> entry = context_.servers->Find(server)) {
      candidate.same_host = !entry->host_id.empty() && entry->host_id == context_.options.host_id;
      candidate.same_zone = !entry->zone.empty() && entry->zone == context_.options.zone;
      candidate.alive = entry->alive;
      candidate.load = entry->load;
    }
    auto suspect = suspect_until_ns_.find(server);
    candidate.suspect = (suspect != suspect_until_ns_.end() && now < suspect->second) || context_.servers->trust().Distrusted(server, now);
    candidates.push_back(candidate);
  }
  return replication::RankReplicas(std::move(candidates), chunk.value() ^ inode_.value());
}

// Others are asked first for a while.
void FileCore::SuspectLocked(ServerId server) { suspect_until_ns_[server] = Now() + kSuspectNanos; }

FileCore::FetchRef FileCore::StartFetchLocked(const ChunkState& chunk, const Source& source, uint64_t offset,
                                              uint32_t length) {
  auto fetch = std::make_shared<Fetch>();
  fetch->chunk = chunk.place.chunk;
  fetch->epoch = chunk.place.config.epoch;
  fetch->want = source.want;
  fetch->exact = source.exact;
  fetch->offset = offset;
  fetch->length = length;
  const std::vector<ServerId> order = RankLocked(source.servers, fetch->chunk);
  fetch->servers = order;
  fetch->first = order.empty() ? ServerId{} : order.front();
  fetch->began_ns = Now();
  const int64_t usual = UsualNanos(order, ServerId{});
  fetch->reader.emplace(order, replication::ReaderOptions{
                                   .hedge_after_ns = std::max(kHedgeAtLeastNanos, kHedgeUsualTimes * usual),
                                   .max_hedges = kMaxHedges});
  PollFetchLocked(fetch);
  return fetch;
}

void FileCore::PollFetchLocked(const FetchRef& fetch) {
  for (ServerId server : fetch->reader->Poll(Now())) {
    if (fetch->asked > fetch->answered) ++context_.counters->hedged_reads;
    AskLocked(fetch, server);
  }
}

// Of these servers, the shortest time of late in which one answers; 0: not known.
int64_t FileCore::UsualNanos(const std::vector<ServerId>& servers, ServerId without) const {
  int64_t usual = 0;
  for (ServerId server : servers) {
    if (server == without) continue;
    const int64_t rtt = context_.data_client->Outstanding(server).smoothed_rtt_ns;
    if (rtt != 0 && (usual == 0 || rtt < usual)) usual = rtt;
  }
  return usual;
}

// How a small read went. Large ones take as long as what else is on its way.
void FileCore::NoteAnswer(ServerId server, const std::vector<ServerId>& servers, int64_t took_ns) {
  ServerTrust& trust = context_.servers->trust();
  if (took_ns < kLateAtLeastNanos) return trust.Answered(server, Now());
  const int64_t usual = UsualNanos(servers, server);
  if (took_ns > kHedgeUsualTimes * usual) trust.AnsweredLate(server, Now());
}

void FileCore::AskLocked(const FetchRef& fetch, ServerId server) {
  ++fetch->asked;
  const wire::ReadRequest request{.chunk = fetch->chunk,
                                  .want = fetch->want,
                                  .exact = fetch->exact,
                                  .offset = fetch->offset,
                                  .length = fetch->length};
  CallLocked(server, MessageType::kRead, net::SharedBytes::Own(wire::Encode(request)), {}, kAskTimeoutMs,
             [self = shared_from_this(), fetch, server](
                 const Status& transport, std::span<const std::byte> meta, net::SharedBytes data) {
               self->OnFetchReply(fetch, server, transport, meta, std::move(data));
             });
}

void FileCore::OnFetchReply(const FetchRef& fetch, ServerId server, const Status& transport,
                            std::span<const std::byte> meta, net::SharedBytes data) {
  Status status = transport;
  uint64_t data_offset = 0;
  if (status.ok()) {
    Result<wire::ReadReply> reply = wire::DecodeReadReply(meta);
    status = reply.status();
    if (reply.ok()) {
      status = wire::CheckReadReply(fetch->chunk, fetch->offset, fetch->length, *reply, data.bytes);
      data_offset = reply->offset;
      if (status.code() == StatusCode::kCorrupt && reply->status.ok()) ++context_.counters->corrupt_replies;
    }
  }
  std::lock_guard lock(mu_);
  ++fetch->answered;
  if (shut_down_ || fetch->finished) return;
  if (status.ok()) {
    fetch->data = std::move(data);
    fetch->data_offset = data_offset;
    fetch->reader->OnSuccess(server);
    if (server != fetch->first && !fetch->first_answered) {
      context_.servers->trust().Disappointed(fetch->first, Now());
    } else if (server == fetch->first && fetch->length <= kSmallBytes) {
      NoteAnswer(server, fetch->servers, Now() - fetch->began_ns);
    }
  } else {
    ++context_.counters->read_failovers;
    SuspectLocked(server);
    if (!transport.ok()) context_.servers->trust().Disappointed(server, Now());
    if (server == fetch->first) fetch->first_answered = true;
    fetch->reader->OnFailure(server, status);
  }
  SettleFetchLocked(fetch);
}

void FileCore::SettleFetchLocked(const FetchRef& fetch) {
  if (fetch->reader->done()) {
    fetch->finished = true;
  } else if (fetch->reader->failed()) {
    fetch->finished = true;
    fetch->status =
        fetch->reader->Failure("chunk " + ToString(fetch->chunk) + " at " + ToString(fetch->want));
  } else {
    PollFetchLocked(fetch);
    return;
  }
  const std::vector<MemberProblem> problems = fetch->reader->Reportable();
  if (!problems.empty()) {
    CAIRN_LOG(Warning, "inode {}: chunk {} at {} is not as it should be on {}", ToString(inode_),
              ToString(fetch->chunk), ToString(fetch->want), replication::DescribeProblems(problems));
    ReportReplicasLocked(fetch->chunk, fetch->epoch, problems);
  }
  changed_.notify_all();
}

Status FileCore::WaitFetchLocked(Lock& lock, const FetchRef& fetch, int64_t deadline_ns) {
  while (!fetch->finished) {
    if (shut_down_) return Status(StatusCode::kCancelled, "the client is shutting down");
    const int64_t now = Now();
    if (now >= deadline_ns) {
      return Status(StatusCode::kTimeout, "read refused: no replica of chunk " + ToString(fetch->chunk) +
                                              " answered within " +
                                              std::to_string(context_.options.read_timeout_ms) + " ms (" +
                                              replication::DescribeProblems(fetch->reader->problems()) + ")");
    }
    PollFetchLocked(fetch);  // hedges, when it takes unusually long
    const int64_t poll = fetch->reader->NextPollNanos().value_or(deadline_ns);
    if (WaitLocked(lock, std::min(deadline_ns, poll))) {
      return Status(StatusCode::kInterrupted, "interrupted while reading");
    }
  }
  return fetch->status;
}

}  // namespace cairn::client

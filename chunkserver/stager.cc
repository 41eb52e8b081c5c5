#include "chunkserver/stager.h"

#include <memory>
#include <string>
#include <utility>

#include "common/checksum.h"
#include "common/wire/read_reply.h"

namespace cairn::chunkserver {
namespace {

constexpr int64_t kAskTimeoutMs = 5000;
constexpr size_t kMaxServersAsked = 1024;

Status Check(const wire::StageRequest& request) {
  const bool named = request.source && request.chunk && request.want.epoch;
  const bool in_range = request.source_offset <= kMaxChunkBytes && request.offset <= kMaxChunkBytes &&
                        request.source_offset + request.length <= kMaxChunkBytes &&
                        request.offset + request.length <= kMaxChunkBytes;
  if (named && in_range) return Status::Ok();
  return {StatusCode::kInvalidArgument, "a stage request names no possible range of a source and a target"};
}

// Cuts what was read, whole blocks from `data_offset` on, to what was asked for.
StagedBytes Cut(const wire::StageRequest& request, uint64_t data_offset, net::SharedBytes data) {
  if (data_offset > request.source_offset || data_offset + data.size() < request.source_offset + request.length) {
    return {.status = Status(StatusCode::kInvalidArgument, "the range to stage reaches beyond chunk " +
                                                               ToString(request.source) + " at " + ToString(request.want))};
  }
  data.bytes = data.bytes.subspan(request.source_offset - data_offset, request.length);
  std::vector<uint32_t> checksums = ChecksumRange(request.chunk, request.offset, data.bytes);
  return {.data = std::move(data), .checksums = std::move(checksums)};
}

}  // namespace

struct Stager::Work {
  wire::StageRequest request;
  Done done;
  size_t next = 0;  // carrier to ask
  std::string failures;
};

void Stager::Stage(wire::StageRequest request, Done done) {
  if (Status possible = Check(request); !possible.ok()) return done({.status = std::move(possible)});
  auto work = std::make_shared<Work>(Work{std::move(request), std::move(done)});
  RunInPool(work, [this, work] {
    StagedBytes own = FromHere(work->request);
    if (own.status.ok() || own.status.code() == StatusCode::kInvalidArgument) return work->done(std::move(own));
    AskNext(work, own.status.WithContext("here"));
  });
}

StagedBytes Stager::FromHere(const wire::StageRequest& request) const {
  Result<ReadData> read = disks_->Read({.chunk = request.source,
                                        .want = request.want,
                                        .exact = true,
                                        .offset = request.source_offset,
                                        .length = request.length},
                                       /*verify=*/true);
  if (!read.ok()) {
    if (read.code() == StatusCode::kCorrupt)
      damage_(request.source, request.source_offset, request.length, read.status().message());
    return {.status = read.status()};
  }
  return Cut(request, read->offset, std::move(read->data));
}

void Stager::AskNext(const std::shared_ptr<Work>& work, Status failure) {
  if (!work->failures.empty()) work->failures += "; ";
  work->failures += failure.message();
  const auto& carriers = work->request.carriers;
  while (peers_ != nullptr && work->next < carriers.size()) {
    const wire::Carrier& carrier = carriers[work->next++];
    if (!carrier.server || carrier.address.empty() || !MayAsk(carrier.server)) continue;
    const wire::ReadRequest read{.chunk = work->request.source,
                                 .want = work->request.want,
                                 .exact = true,
                                 .offset = work->request.source_offset,
                                 .length = work->request.length};
    return peers_->Call({carrier.server, carrier.address}, wire::MessageType::kRead,
                        net::SharedBytes::Own(wire::Encode(read)), {},
                        clock_->NowNanos() + kAskTimeoutMs * kNanosPerMilli,
                        [this, work](const Status& transport, std::span<const std::byte> meta, net::SharedBytes data) {
                          OnReply(work, transport, meta, std::move(data));
                        });
  }
  work->done({.status = Status(StatusCode::kUnavailable, "chunk " + ToString(work->request.source) + " at " +
                                                             ToString(work->request.want) + " could not be fetched (" +
                                                             work->failures + ")")});
}

void Stager::OnReply(const std::shared_ptr<Work>& work, const Status& transport, std::span<const std::byte> meta,
                     net::SharedBytes data) {
  if (!transport.ok()) return AskNext(work, transport);
  Result<wire::ReadReply> reply = wire::DecodeReadReply(meta);
  if (!reply.ok()) return AskNext(work, reply.status());
  RunInPool(work, [this, work, reply = *std::move(reply), data = std::move(data)]() mutable {
    const wire::StageRequest& request = work->request;
    Status status =
        wire::CheckReadReply(request.source, request.source_offset, request.length, reply, data.bytes);
    if (status.ok() && reply.stamp != request.want)
      status = Status(StatusCode::kMalformed, "a carrier answered with another stamp than the one asked for");
    if (!status.ok()) return AskNext(work, std::move(status));
    work->done(Cut(request, reply.offset, std::move(data)));
  });
}

void Stager::RunInPool(const std::shared_ptr<Work>& work, std::function<void()> task) {
  if (pool_->TrySubmit(std::move(task))) return;
  work->done({.status = Status(StatusCode::kResourceExhausted, "too many reads are queued at this chunkserver")});
}

bool Stager::MayAsk(ServerId server) {
  std::lock_guard lock(mu_);
  if (asked_.size() >= kMaxServersAsked && !asked_.contains(server)) return false;
  asked_.insert(server);
  return true;
}

}  // namespace cairn::chunkserver

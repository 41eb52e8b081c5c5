#include "chunkserver/copier.h"

#include <openssl/evp.h>

#include <algorithm>
#include <deque>
#include <future>
#include <memory>
#include <utility>

#include "common/checksum.h"
#include "common/wire/messages.h"

namespace cairn::chunkserver {
namespace {

using replication::ReplicaInfo;
using wire::Digest;
using wire::kDigestRangeBytes;

// Digests asked for in one request: 1024 ranges are 64 MiB.
constexpr uint64_t kRangesPerRequest = 1024;
// Own digests are computed in smaller steps, between which a shutdown is noticed.
constexpr uint64_t kOwnRangesPerStep = 64;

Digest DigestOfZeros() {
  const std::vector<uint8_t> zeros(kDigestRangeBytes);
  uint8_t full[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  CAIRN_CHECK(EVP_Digest(zeros.data(), zeros.size(), full, &bytes, EVP_sha256(), nullptr) == 1, "no SHA-256");
  Digest digest;
  std::copy_n(full, digest.size(), digest.begin());
  return digest;
}

struct Reply {
  Status status;
  wire::Bytes meta;
  net::SharedBytes data;
};

}  // namespace

// One sync: what it found out so far.
class Copier::Run {
 public:
  Run(Copier* copier, const SyncTask& task)
      : copier_(copier), task_(task), limiter_(task.rate_bytes_per_second, copier->clock_) {}

  SyncOutcome Execute() {
    outcome_.info.chunk = task_.chunk;
    outcome_.status = Check();
    if (!outcome_.status.ok()) return outcome_;
    outcome_.status = Here(copier_->disks_->SyncStart(task_.chunk, task_.epoch, task_.base, task_.length));
    if (outcome_.status.ok()) {
      outcome_.status = CopyDifferences();
      if (outcome_.status.ok()) {
        outcome_.status = Here(copier_->disks_->SyncFinish(task_.chunk, task_.base, &outcome_.info));
      } else {
        copier_->disks_->SyncAbandon(task_.chunk);
      }
    }
    if (!outcome_.status.ok()) {
      // What the replica is now, for the master's decision. An unknown chunk leaves the empty state.
      (void)copier_->disks_->Query(task_.chunk, &outcome_.info);
    }
    return outcome_;
  }

 private:
  struct Piece {
    uint64_t offset;
    uint64_t length;
    size_t attempts = 0;  // sources that failed to give it
  };
  struct Fetch {
    Piece piece;
    size_t source;
    std::future<Reply> reply;
  };

  Status Check() const {
    if (!task_.chunk || !task_.base.epoch || task_.epoch < task_.base.epoch) {
      return Status(StatusCode::kInvalidArgument,
                    "a sync names no chunk, no base, or an epoch below its base");
    }
    if (task_.sources.empty() && task_.length > 0) {
      return Status(StatusCode::kInvalidArgument,
                    "a sync of chunk " + ToString(task_.chunk) + " names no source");
    }
    return Status::Ok();
  }

  // Notes whether this server's own disk says no. A protocol's refusal (a higher promise) says nothing against the disk.
  Status Here(Status status) {
    outcome_.refused_here = status.code() == StatusCode::kNoSpace || status.code() == StatusCode::kIoError;
    return status;
  }

  Status CopyDifferences() {
    const uint64_t ranges = (task_.length + kDigestRangeBytes - 1) / kDigestRangeBytes;
    CAIRN_ASSIGN_OR_RETURN(const std::vector<Digest> own, OwnDigests(ranges));
    std::deque<Piece> pieces;
    for (uint64_t first = 0; first < ranges; first += kRangesPerRequest) {
      const uint64_t count = std::min(kRangesPerRequest, ranges - first);
      CAIRN_ASSIGN_OR_RETURN(const std::vector<Digest> theirs, SourceDigests(first, count));
      for (uint64_t i = 0; i < count; ++i) {
        // A range with a bad block has the empty digest, which equals nothing, not even itself.
        const bool same = own[first + i] == theirs[i] && theirs[i] != Digest{};
        if (!same) AddRange(first + i, &pieces);
      }
    }
    // A disk that fills up in the middle would have cost the transfer, and every attempt after it again.
    CAIRN_RETURN_IF_ERROR(Here(copier_->disks_->SyncRoom(task_.chunk, outcome_.bytes_differing)));
    return FetchPieces(std::move(pieces));
  }

  void AddRange(uint64_t range, std::deque<Piece>* pieces) {
    const uint64_t offset = range * kDigestRangeBytes;
    const uint64_t length = std::min<uint64_t>(kDigestRangeBytes, task_.length - offset);
    outcome_.bytes_differing += length;
    if (!pieces->empty() && pieces->back().offset + pieces->back().length == offset &&
        pieces->back().length + length <= copier_->options_.piece_bytes) {
      pieces->back().length += length;
    } else {
      pieces->push_back({offset, length});
    }
  }

  // Digests of the present bytes; ranges beyond them, and all of an absent replica, are zeros.
  Result<std::vector<Digest>> OwnDigests(uint64_t ranges) {
    static const Digest zeros = DigestOfZeros();
    std::vector<Digest> digests(ranges, zeros);
    ReplicaInfo info;
    const Status known = copier_->disks_->Query(task_.chunk, &info);
    if (known.code() == StatusCode::kUnknownChunk) return digests;
    CAIRN_RETURN_IF_ERROR(Here(known));
    const uint64_t present = std::min(ranges, (info.length + kDigestRangeBytes - 1) / kDigestRangeBytes);
    for (uint64_t first = 0; first < present; first += kOwnRangesPerStep) {
      if (copier_->limiter_.stopped()) return Cancelled();
      const uint64_t count = std::min(kOwnRangesPerStep, present - first);
      if (OwnRanges(info.accepted, first, count, &digests)) continue;
      for (uint64_t range = first; range < first + count; ++range) {
        if (!OwnRanges(info.accepted, range, 1, &digests)) digests[range] = Digest{};
      }
    }
    return digests;
  }

  bool OwnRanges(Stamp at, uint64_t first, uint64_t count, std::vector<Digest>* digests) const {
    uint64_t chunk_length = 0;
    const Result<std::vector<Digest>> found = copier_->disks_->Digests(
        {task_.chunk, at, first * kDigestRangeBytes, count * kDigestRangeBytes}, &chunk_length);
    if (!found.ok()) return false;
    for (uint64_t i = 0; i < std::min<uint64_t>(count, found->size()); ++i)
      (*digests)[first + i] = (*found)[i];
    return true;
  }

  Result<std::vector<Digest>> SourceDigests(uint64_t first, uint64_t count) {
    const wire::DigestsRequest request{task_.chunk, task_.base, first * kDigestRangeBytes,
                                       count * kDigestRangeBytes};
    for (size_t attempt = 0; attempt < task_.sources.size(); ++attempt, NextSource(source_)) {
      const Reply reply = Ask(wire::MessageType::kDigests, wire::Encode(request), source_).get();
      Result<wire::DigestsReply> digests = Decode(reply);
      if (!digests.ok()) {
        NoteFailure(source_, digests.status());
        continue;
      }
      if (digests->digests.size() != count || digests->chunk_length != task_.length) {
        NoteFailure(source_, Status(StatusCode::kMalformed,
                                    "it answered with " + std::to_string(digests->digests.size()) +
                                        " digests of a chunk of " + std::to_string(digests->chunk_length) +
                                        " bytes, not " + std::to_string(count) + " of " +
                                        std::to_string(task_.length)));
        continue;
      }
      return std::move(digests->digests);
    }
    return NoSource();
  }

  static Result<wire::DigestsReply> Decode(const Reply& reply) {
    CAIRN_RETURN_IF_ERROR(reply.status);
    CAIRN_ASSIGN_OR_RETURN(wire::DigestsReply digests, wire::DecodeDigestsReply(reply.meta));
    CAIRN_RETURN_IF_ERROR(digests.status);
    return digests;
  }

  // Keeps `window` reads under way and writes them in order.
  Status FetchPieces(std::deque<Piece> pieces) {
    std::deque<Fetch> under_way;
    while (!pieces.empty() || !under_way.empty()) {
      while (!pieces.empty() && under_way.size() < copier_->options_.window) {
        const Piece piece = pieces.front();
        if (!limiter_.Take(piece.length) || !copier_->limiter_.Take(piece.length)) return Cancelled();
        pieces.pop_front();
        under_way.push_back({piece, source_, Ask(wire::MessageType::kRead, ReadMeta(piece), source_)});
      }
      Fetch fetch = std::move(under_way.front());
      under_way.pop_front();
      const Reply reply = fetch.reply.get();
      if (copier_->limiter_.stopped()) return Cancelled();
      const Result<wire::ReadReply> read = Verify(fetch.piece, reply);
      if (!read.ok()) {
        NoteFailure(fetch.source, read.status());
        NextSource(fetch.source);
        if (++fetch.piece.attempts >= task_.sources.size()) return NoSource();
        pieces.push_front(fetch.piece);
        continue;
      }
      outcome_.bytes_transferred += reply.data.size();
      CAIRN_RETURN_IF_ERROR(
          Here(copier_->disks_->SyncWrite(task_.chunk, read->offset, reply.data.bytes, read->checksums)));
    }
    return Status::Ok();
  }

  wire::Bytes ReadMeta(const Piece& piece) const {
    return wire::Encode(wire::ReadRequest{task_.chunk, task_.base, /*exact=*/true, piece.offset,
                                          static_cast<uint32_t>(piece.length)});
  }

  Result<wire::ReadReply> Verify(const Piece& piece, const Reply& reply) const {
    CAIRN_RETURN_IF_ERROR(reply.status);
    CAIRN_ASSIGN_OR_RETURN(wire::ReadReply read, wire::DecodeReadReply(reply.meta));
    CAIRN_RETURN_IF_ERROR(read.status);
    if (read.stamp != task_.base || read.offset != piece.offset || reply.data.size() < piece.length ||
        read.checksums.size() != BlocksTouched(read.offset, reply.data.size())) {
      return Status(StatusCode::kMalformed, "it answered a read with other bytes than those asked for");
    }
    const int64_t bad = FirstBadBlockOf(read, reply.data.bytes);
    if (bad >= 0) {
      return Status(StatusCode::kCorrupt,
                    "block " + std::to_string(piece.offset / kBlockBytes + static_cast<uint64_t>(bad)) +
                        " of its replica does not match its checksum");
    }
    return read;
  }

  // A read ends at a block boundary or at the chunk's end, where the stored checksum is that of the padded
  // block.
  int64_t FirstBadBlockOf(const wire::ReadReply& read, std::span<const std::byte> data) const {
    for (size_t i = 0; i < read.checksums.size(); ++i) {
      const auto block =
          data.subspan(i * kBlockBytes, std::min<size_t>(kBlockBytes, data.size() - i * kBlockBytes));
      if (BlockChecksum(task_.chunk, read.offset / kBlockBytes + i, block) != read.checksums[i]) {
        return static_cast<int64_t>(i);
      }
    }
    return -1;
  }

  std::future<Reply> Ask(wire::MessageType type, wire::Bytes meta, size_t source) {
    auto promise = std::make_shared<std::promise<Reply>>();
    std::future<Reply> future = promise->get_future();
    const int64_t deadline =
        copier_->clock_->NowNanos() + copier_->options_.request_timeout_ms * kNanosPerMilli;
    copier_->peers_->Call(
        task_.sources[source], type, net::SharedBytes::Own(std::move(meta)), {}, deadline,
        [promise](Status status, std::span<const std::byte> reply_meta, net::SharedBytes data) {
          promise->set_value({std::move(status), {reply_meta.begin(), reply_meta.end()}, std::move(data)});
        });
    return future;
  }

  // `failed` did not work; others may have gone on to the next one already.
  void NextSource(size_t failed) {
    if (source_ == failed) source_ = (failed + 1) % task_.sources.size();
  }
  void NoteFailure(size_t source, const Status& why) {
    if (!failures_.empty()) failures_ += "; ";
    failures_ += ToString(task_.sources[source].server) + ": " + why.message();
    last_code_ = why.code();
  }
  Status NoSource() const {
    const StatusCode code = last_code_ == StatusCode::kOk ? StatusCode::kUnavailable : last_code_;
    return Status(code, "no source could give chunk " + ToString(task_.chunk) + " at " +
                            ToString(task_.base) + " (" + failures_ + ")");
  }
  Status Cancelled() const { return Status(StatusCode::kCancelled, "the chunkserver is shutting down"); }

  Copier* const copier_;
  const SyncTask& task_;
  RateLimiter limiter_;
  SyncOutcome outcome_;
  size_t source_ = 0;
  std::string failures_;
  StatusCode last_code_ = StatusCode::kOk;
};

Copier::Copier(DiskSet* disks, net::DataClient* peers, const Clock* clock, CopierOptions options)
    : disks_(disks),
      peers_(peers),
      clock_(clock),
      options_(options),
      limiter_(options.rate_bytes_per_second, clock) {
  CAIRN_CHECK(options_.piece_bytes % kDigestRangeBytes == 0 && options_.piece_bytes > 0 &&
                  options_.piece_bytes <= wire::kMaxTransferBytes && options_.window > 0,
              "copier options");
}

SyncOutcome Copier::Sync(const SyncTask& task) { return Run(this, task).Execute(); }

void Copier::Stop() { limiter_.Stop(); }

}  // namespace cairn::chunkserver

#include "chunkserver/staging_area.h"

#include <string>
#include <utility>

#include "common/clock.h"

namespace cairn::chunkserver {

bool StagingBudget::TryAcquire(uint64_t bytes) {
  if (used_bytes_.fetch_add(bytes) + bytes <= limit_bytes_) return true;
  used_bytes_.fetch_sub(bytes);
  return false;
}

Status StagingArea::Reserve(uint64_t bytes) {
  if (closed_) return {StatusCode::kResourceExhausted, "the connection has ended"};
  if (pieces_.size() + reserved_ >= limits_.pieces_per_connection ||
      bytes_ + bytes > limits_.bytes_per_connection) {
    return {StatusCode::kResourceExhausted, "this connection has " + std::to_string(bytes_) + " bytes in " +
                                                std::to_string(pieces_.size() + reserved_) + " pieces staged already"};
  }
  if (!budget_->TryAcquire(bytes)) {
    return {StatusCode::kResourceExhausted,
            "this chunkserver has " + std::to_string(budget_->used_bytes()) + " bytes staged already"};
  }
  bytes_ += bytes;
  ++reserved_;
  return Status::Ok();
}

void StagingArea::Release(uint64_t bytes) {
  if (closed_) return;  // Close gave everything back
  --reserved_;
  bytes_ -= bytes;
  budget_->Release(bytes);
}

uint64_t StagingArea::Keep(const wire::StageRequest& request, net::SharedBytes bytes, int64_t now_ns) {
  if (closed_) return 0;
  --reserved_;
  const uint64_t token = next_token_++;
  pieces_.emplace(token, Piece{request.chunk, request.offset, std::move(bytes), now_ns});
  return token;
}

std::optional<net::SharedBytes> StagingArea::Find(uint64_t token, const replication::Mutation& write) const {
  const auto found = pieces_.find(token);
  if (found == pieces_.end()) return std::nullopt;
  const Piece& piece = found->second;
  if (piece.chunk != write.chunk || piece.offset != write.offset || piece.bytes.size() != write.length) return std::nullopt;
  return piece.bytes;
}

void StagingArea::Drop(uint64_t token) {
  const auto found = pieces_.find(token);
  if (found == pieces_.end()) return;
  bytes_ -= found->second.bytes.size();
  budget_->Release(found->second.bytes.size());
  pieces_.erase(found);
}

void StagingArea::Expire(int64_t now_ns) {
  while (!pieces_.empty() && now_ns - pieces_.begin()->second.staged_ns >= limits_.keep_ms * kNanosPerMilli)
    Drop(pieces_.begin()->first);
}

void StagingArea::Close() {
  if (std::exchange(closed_, true)) return;
  pieces_.clear();
  budget_->Release(bytes_);
  bytes_ = 0;
}

}  // namespace cairn::chunkserver

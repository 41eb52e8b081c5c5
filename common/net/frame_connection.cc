#include "common/net/frame_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/checksum.h"

namespace cairn::net {
namespace {

constexpr size_t kStagingBytes = 64u << 10;
// While a large payload arrives, only this much of what follows it is taken along: those bytes are copied
// once more.
constexpr size_t kTailBytes = 16u << 10;
constexpr size_t kMaxReadPerRound = 8u << 20;
constexpr size_t kGatherParts = 96;

}  // namespace

FrameConnection::FrameConnection(EventLoop* loop, Socket socket, std::string peer, Options options,
                                 BufferPool* pool)
    : loop_(loop), socket_(std::move(socket)), peer_(std::move(peer)), options_(options), pool_(pool) {
  staging_.resize(kStagingBytes);
}

FrameConnection::~FrameConnection() = default;

std::shared_ptr<FrameConnection> FrameConnection::Start(EventLoop* loop, Socket socket, std::string peer,
                                                        Options options, BufferPool* pool,
                                                        std::shared_ptr<Owner> owner) {
  auto connection =
      std::make_shared<FrameConnection>(loop, std::move(socket), std::move(peer), options, pool);
  connection->owner_ = std::move(owner);
  connection->events_ = EPOLLIN;
  connection->last_received_ns_ = loop->clock()->NowNanos();
  connection->watch_ = loop->Watch(connection->socket_.fd(), EPOLLIN, connection);
  return connection;
}

void FrameConnection::SetLimits(uint32_t max_meta_bytes, uint32_t max_data_bytes) {
  options_.max_meta_bytes = max_meta_bytes;
  options_.max_data_bytes = max_data_bytes;
}

void FrameConnection::UpdateEvents() {
  if (closed_) return;
  const uint32_t wanted = (paused_ ? 0u : uint32_t{EPOLLIN}) | (send_blocked_ ? uint32_t{EPOLLOUT} : 0u);
  if (wanted == events_) return;
  events_ = wanted;
  loop_->Modify(watch_, wanted);
}

void FrameConnection::PauseReading() {
  paused_ = true;
  UpdateEvents();
}

void FrameConnection::ResumeReading() {
  if (!paused_ || closed_) return;
  paused_ = false;
  UpdateEvents();
  // Frames may have been received already, of which epoll knows nothing.
  if (in_the_middle_of_a_frame() && !handling_events_) {
    loop_->Defer([self = shared_from_this()] { self->OnEvents(0); });
  }
}

void FrameConnection::Close(const Status& why) {
  if (closed_) return;
  const auto self = shared_from_this();
  if (!failing_) Flush();
  closed_ = true;
  loop_->Unwatch(watch_);
  socket_.Close();
  queue_.clear();
  queued_bytes_ = 0;
  data_ = {};
  const std::shared_ptr<Owner> owner = std::move(owner_);
  owner->OnClosed(*this, why);
}

void FrameConnection::Fail(Status why) {
  if (failing_ || closed_) return;
  failing_ = true;
  loop_->Defer([self = shared_from_this(), why = std::move(why)] { self->Close(why); });
}

void FrameConnection::OnEvents(uint32_t epoll_events) {
  if (closed_ || failing_) return;
  handling_events_ = true;
  if ((epoll_events & EPOLLOUT) != 0) {
    send_blocked_ = false;
    Flush();
  }
  bool alive = ParseFrames();
  size_t taken = 0;
  drained_ = false;
  // A hang-up is found by reading, so that frames sent before it are still seen.
  while (alive && !paused_ && (epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 && !drained_ &&
         taken < kMaxReadPerRound) {
    const size_t before = end_ - begin_ + data_filled_;
    alive = ReadSome();
    if (!alive) break;
    taken += end_ - begin_ + data_filled_ - before;
    alive = ParseFrames();
  }
  if (alive && paused_ && (epoll_events & (EPOLLERR | EPOLLHUP)) != 0) {
    // Level-triggered hang-ups of a paused connection would spin.
    Fail(Status(StatusCode::kUnavailable, "connection lost"));
  }
  handling_events_ = false;
  if (!closed_ && !failing_) Flush();
}

bool FrameConnection::ReadSome() {
  // Room for the rest of the meta part, or for a header and more.
  const size_t needed = have_header_ && !receiving_data_ ? header_.meta_bytes : wire::kHeaderBytes;
  if (begin_ == end_) begin_ = end_ = 0;
  if (begin_ + needed > staging_.size() || begin_ > staging_.size() / 2) {
    std::memmove(staging_.data(), staging_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    if (needed > staging_.size()) staging_.resize(needed);
  }
  std::array<iovec, 2> parts;
  int count = 0;
  size_t data_room = 0;
  if (receiving_data_) {
    data_room = data_.bytes.size() - data_filled_;
    parts[count++] = {data_.bytes.data() + data_filled_, data_room};
  }
  const size_t tail = data_room > kStagingBytes ? kTailBytes : staging_.size();
  parts[count++] = {staging_.data() + end_, std::min(tail, staging_.size() - end_)};
  const ssize_t bytes = readv(socket_.fd(), parts.data(), count);
  if (bytes < 0) {
    if (errno == EAGAIN || errno == EINTR) {
      drained_ = true;
      return true;
    }
    Fail(Status(StatusCode::kUnavailable, std::string("connection lost: ") + std::strerror(errno)));
    return false;
  }
  if (bytes == 0) {
    Fail(Status(StatusCode::kUnavailable, in_the_middle_of_a_frame()
                                              ? "the peer closed the connection in the middle of a frame"
                                              : "the peer closed the connection"));
    return false;
  }
  last_received_ns_ = loop_->clock()->NowNanos();
  // A short read means that the socket is empty: asking again would cost a system call for nothing.
  drained_ = static_cast<size_t>(bytes) < data_room + parts[count - 1].iov_len;
  const size_t into_data = std::min(static_cast<size_t>(bytes), data_room);
  data_filled_ += into_data;
  end_ += static_cast<size_t>(bytes) - into_data;
  return true;
}

bool FrameConnection::ParseFrames() {
  while (!closed_ && !failing_) {
    if (receiving_data_) {
      if (data_filled_ < data_.bytes.size()) {
        const auto unparsed = Unparsed();
        const size_t take = std::min(unparsed.size(), data_.bytes.size() - data_filled_);
        if (take > 0) std::memcpy(data_.bytes.data() + data_filled_, unparsed.data(), take);
        data_filled_ += take;
        begin_ += take;
      }
      if (data_filled_ < data_.bytes.size()) return true;
      if (paused_) return true;
      SharedBytes data = data_.Share();
      data_ = {};
      data_filled_ = 0;
      receiving_data_ = false;
      const std::vector<std::byte> meta = std::move(meta_);
      if (!Dispatch(meta, std::move(data))) return false;
      continue;
    }
    if (paused_) return true;
    if (!have_header_) {
      const auto unparsed = Unparsed();
      if (unparsed.size() < wire::kHeaderBytes) return true;
      Result<wire::FrameHeader> header = wire::DecodeHeader(unparsed.first<wire::kHeaderBytes>());
      if (header.ok() &&
          (header->meta_bytes > options_.max_meta_bytes || header->data_bytes > options_.max_data_bytes)) {
        header = Status(StatusCode::kResourceExhausted, "a frame of " + std::to_string(header->meta_bytes) +
                                                            " + " + std::to_string(header->data_bytes) +
                                                            " bytes is more than this peer may send now");
      }
      if (!header.ok()) {
        Fail(header.status());
        return false;
      }
      header_ = *header;
      have_header_ = true;
      begin_ += wire::kHeaderBytes;
    }
    if (Unparsed().size() < header_.meta_bytes) return true;
    if (!TakeMeta()) return false;
  }
  return false;
}

bool FrameConnection::TakeMeta() {
  const std::span<const std::byte> meta = Unparsed().first(header_.meta_bytes);
  if (Crc32c(meta) != header_.meta_crc) {
    Fail(Status(StatusCode::kMalformed, "the checksum of a message does not match"));
    return false;
  }
  begin_ += header_.meta_bytes;
  if (header_.data_bytes == 0) return Dispatch(meta, {});
  meta_.assign(meta.begin(), meta.end());
  data_ = pool_->Acquire(header_.data_bytes);
  data_filled_ = 0;
  receiving_data_ = true;
  return true;
}

bool FrameConnection::Dispatch(std::span<const std::byte> meta, SharedBytes data) {
  have_header_ = false;
  owner_->OnFrame(*this, Frame{header_, meta, std::move(data)});
  return !closed_ && !failing_;
}

void FrameConnection::Send(uint8_t type, uint64_t request_id, SharedBytes meta, SharedBytes data) {
  if (closed_ || failing_) return;
  wire::FrameHeader header;
  header.type = type;
  header.request_id = request_id;
  header.meta_bytes = static_cast<uint32_t>(meta.size());
  header.data_bytes = static_cast<uint32_t>(data.size());
  header.meta_crc = Crc32c(meta.bytes);
  CAIRN_CHECK(meta.size() <= wire::kMaxMetaBytes && data.size() <= wire::kMaxDataBytes,
              "a frame beyond the limits");
  if (queue_.empty()) send_progress_ns_ = loop_->clock()->NowNanos();
  queue_.push_back({wire::EncodeHeader(header), std::move(meta), std::move(data)});
  queued_bytes_ += queue_.back().bytes();
  if (queued_bytes_ > options_.notify_below) was_long_ = true;
  if (handling_events_ || flush_deferred_ || send_blocked_) return;
  flush_deferred_ = true;
  loop_->DeferSend([self = shared_from_this()] {
    self->flush_deferred_ = false;
    self->Flush();
  });
}

size_t FrameConnection::GatherQueue(std::span<iovec> into) const {
  size_t count = 0;
  size_t skip = front_sent_;
  const auto add = [&](const std::byte* bytes, size_t size) {
    const size_t skipped = std::min(skip, size);
    skip -= skipped;
    if (size > skipped) into[count++] = {const_cast<std::byte*>(bytes) + skipped, size - skipped};
  };
  for (const Outgoing& frame : queue_) {
    if (count + 3 > into.size()) break;
    add(frame.header.data(), frame.header.size());
    add(frame.meta.data(), frame.meta.size());
    add(frame.data.data(), frame.data.size());
  }
  return count;
}

void FrameConnection::DropSent(size_t bytes) {
  queued_bytes_ -= bytes;
  front_sent_ += bytes;
  while (!queue_.empty() && front_sent_ >= queue_.front().bytes()) {
    front_sent_ -= queue_.front().bytes();
    queue_.pop_front();
  }
}

void FrameConnection::Flush() {
  if (closed_ || failing_ || send_blocked_) return;
  while (!queue_.empty()) {
    std::array<iovec, kGatherParts> parts;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = GatherQueue(parts);
    const ssize_t sent = sendmsg(socket_.fd(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      send_blocked_ = true;
      break;
    }
    if (sent < 0) {
      Fail(Status(StatusCode::kUnavailable, std::string("connection lost: ") + std::strerror(errno)));
      return;
    }
    DropSent(static_cast<size_t>(sent));
    if (!queue_.empty()) send_progress_ns_ = loop_->clock()->NowNanos();
  }
  UpdateEvents();
  if (was_long_ && queued_bytes_ <= options_.notify_below) {
    was_long_ = false;
    owner_->OnSendQueueShort(*this);
  }
}

}  // namespace cairn::net

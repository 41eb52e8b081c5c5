// One TCP connection that carries frames (common/wire/frame.h), driven by an event loop.
//
// Sending gathers header, meta and payload straight from where they lie; nothing is copied in user space.
// Frames queued within one round of the loop leave together. Receiving puts the data part directly into a
// pooled buffer.
//
//   auto connection = FrameConnection::Start(loop, std::move(socket), "127.0.0.1:9410", options, owner);
//   connection->Send(type, request_id, meta, data);
//   ... owner->OnFrame(...) per frame, in the order of the peer; owner->OnClosed(...) once, last
//
// Bounds: what is received is bounded by the limits on a frame. What is sent is bounded by the owner, who
// looks at queued_bytes() and stops reading (PauseReading) or refuses new work.
//
// Thread-safety: everything on the loop's thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "common/net/shared_bytes.h"
#include "common/net/socket.h"
#include "common/status.h"
#include "common/wire/frame.h"

namespace cairn::net {

struct Frame {
  wire::FrameHeader header;
  std::span<const std::byte> meta;  // valid during OnFrame only; its checksum has been verified
  SharedBytes data;
};

class FrameConnection final : public FdHandler, public std::enable_shared_from_this<FrameConnection> {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnFrame(FrameConnection& connection, Frame frame) = 0;
    // The send queue became shorter. Only called after queued_bytes() exceeded Options::notify_below.
    virtual void OnSendQueueShort(FrameConnection& connection) {}
    virtual void OnClosed(FrameConnection& connection, const Status& why) = 0;
  };

  struct Options {
    uint32_t max_meta_bytes = wire::kMaxMetaBytes;
    uint32_t max_data_bytes = wire::kMaxDataBytes;
    size_t notify_below = 8u << 20;
  };

  // The connection keeps the owner alive until OnClosed has returned.
  static std::shared_ptr<FrameConnection> Start(EventLoop* loop, Socket socket, std::string peer,
                                                Options options, BufferPool* pool,
                                                std::shared_ptr<Owner> owner);
  FrameConnection(EventLoop* loop, Socket socket, std::string peer, Options options, BufferPool* pool);
  ~FrameConnection() override;

  void Send(uint8_t type, uint64_t request_id, SharedBytes meta, SharedBytes data);
  // Ends the connection and calls OnClosed, unless that has happened already. What is queued is sent as far
  // as the socket takes it at once.
  void Close(const Status& why);

  void PauseReading();
  void ResumeReading();
  // A peer that has not said who it is may not make us hold much.
  void SetLimits(uint32_t max_meta_bytes, uint32_t max_data_bytes);

  const std::string& peer() const { return peer_; }
  bool closed() const { return closed_; }
  size_t queued_bytes() const { return queued_bytes_; }
  // When the peer last took something of what is queued for it; 0: nothing is queued.
  int64_t send_waits_since_ns() const { return queue_.empty() ? 0 : send_progress_ns_; }
  bool reading_paused() const { return paused_; }
  // When bytes last arrived, and whether a frame is half received.
  int64_t last_received_ns() const { return last_received_ns_; }
  bool in_the_middle_of_a_frame() const { return have_header_ || begin_ != end_; }

  void OnEvents(uint32_t epoll_events) override;

 private:
  struct Outgoing {
    std::array<std::byte, wire::kHeaderBytes> header;
    SharedBytes meta;
    SharedBytes data;
    size_t bytes() const { return header.size() + meta.size() + data.size(); }
  };

  // Each returns false when the connection was closed.
  bool ReadSome();
  bool ParseFrames();
  bool TakeMeta();
  bool Dispatch(std::span<const std::byte> meta, SharedBytes data);
  void Fail(Status why);  // Close at the end of the round: safe within calls of the owner

  void Flush();
  size_t GatherQueue(std::span<iovec> into) const;
  void DropSent(size_t bytes);
  void UpdateEvents();
  std::span<const std::byte> Unparsed() const { return {staging_.data() + begin_, end_ - begin_}; }

  EventLoop* const loop_;
  Socket socket_;
  const std::string peer_;
  Options options_;
  BufferPool* const pool_;
  std::shared_ptr<Owner> owner_;
  EventLoop::WatchId watch_ = 0;
  uint32_t events_ = 0;
  bool closed_ = false;
  bool failing_ = false;
  bool paused_ = false;
  bool handling_events_ = false;
  bool drained_ = false;  // the last read took all there was

  // Receiving: bytes [begin_, end_) of staging_ are not parsed yet.
  std::vector<std::byte> staging_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool have_header_ = false;
  wire::FrameHeader header_;
  bool receiving_data_ = false;
  std::vector<std::byte> meta_;  // of the frame whose data is still arriving
  PooledBuffer data_;
  size_t data_filled_ = 0;
  int64_t last_received_ns_ = 0;

  // Sending.
  std::deque<Outgoing> queue_;
  size_t front_sent_ = 0;  // bytes of the first frame that are gone
  int64_t send_progress_ns_ = 0;
  size_t queued_bytes_ = 0;
  bool flush_deferred_ = false;
  bool send_blocked_ = false;
  bool was_long_ = false;
};

}  // namespace cairn::net

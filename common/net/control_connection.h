// One connection of the control plane that carries whole messages (serialized protobuf) over the frames of
// the data plane: what a session with the master and a chunkserver's control stream are made of
// (docs/decisions/session-over-frames.md). The other side is a MessageSocket.
//
// A message is one frame of type kMessage; a longer one is cut, all but the last part travel as kPart. kEnd
// says why the sender ends the stream; the peer then closes.
//
// Bounds: a message has at most max_message_bytes, and unfinished ones of all connections that share `unfinished` its limit; a peer that
// does not read loses the connection at max_queued_bytes; reading stops while `window` messages or window_bytes of them wait for Consumed.
// Whoever owns the connection asks now and then whether it only occupies a place (Overdue).
//
// Thread-safety: everything on the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "common/net/frame_connection.h"

namespace cairn::net {

// On the wire: do not change the values. Apart from those of wire::MessageType, so that a peer that is
// connected to the wrong port is refused at once.
enum class ControlFrame : uint8_t {
  kMessage = 64,
  kPart = 65,
  kEnd = 66,
  kChunkserver = 67,  // empty; only as the first frame: this is a chunkserver's control stream, not a session
};

inline constexpr size_t kControlPartBytes = 256u << 10;
inline constexpr size_t kMaxMessageBytes = 64u << 20;

// kEnd carries the code as a little-endian u16 and the message as it is.
std::vector<std::byte> EncodeControlEnd(const Status& status);
Status DecodeControlEnd(std::span<const std::byte> bytes);

// Bytes of messages whose end has not arrived, of connections that share it.
struct UnfinishedBudget {
  size_t limit_bytes = 128u << 20;
  size_t used_bytes = 0;
};

class ControlConnection final : public FrameConnection::Owner,
                                public std::enable_shared_from_this<ControlConnection> {
 public:
  struct Handler {
    std::function<void(std::span<const std::byte> message)> message;
    // The peer is a chunkserver; before its first message. Empty: such peers are refused.
    std::function<void(const std::shared_ptr<ControlConnection>&)> chunkserver = nullptr;
    std::function<void()> closed;  // once, last
  };
  struct Limits {
    size_t window = 1024;
    size_t window_bytes = 16u << 20;
    size_t max_queued_bytes = 64u << 20;
    size_t max_message_bytes = kMaxMessageBytes;
    std::shared_ptr<UnfinishedBudget> unfinished = nullptr;  // null: its own
    int64_t first_message_timeout_ns = 10 * kNanosPerSecond;
    int64_t half_message_timeout_ns = 60 * kNanosPerSecond;
  };

  static std::shared_ptr<ControlConnection> Start(EventLoop* loop, Socket socket, std::string peer,
                                                  BufferPool* pool, const Limits& limits, Handler handler,
                                                  std::shared_ptr<void> slot);
  ControlConnection(EventLoop* loop, const Limits& limits, Handler handler, std::shared_ptr<void> slot);

  void Send(std::vector<std::byte> message);
  // Ends the stream with this status after what was sent. The peer closes; one that does not is cut off.
  void End(const Status& status);
  void Consumed();
  // At once.
  void Close(const Status& why);
  // Why the connection should be closed although nothing is wrong with what came; empty: it need not.
  std::string Overdue(int64_t now_ns) const;
  size_t queued_bytes() const { return connection_ == nullptr ? 0 : connection_->queued_bytes(); }
  int64_t send_waits_since_ns() const { return connection_ == nullptr ? 0 : connection_->send_waits_since_ns(); }

  void OnFrame(FrameConnection& connection, Frame frame) override;
  void OnClosed(FrameConnection& connection, const Status& why) override;

 private:
  EventLoop* const loop_;
  const Limits limits_;
  Handler handler_;
  std::shared_ptr<void> slot_;
  std::shared_ptr<FrameConnection> connection_;  // null once it is closed
  std::vector<std::byte> parts_;                 // of a message whose end has not arrived
  void AddPart(std::span<const std::byte> part);
  void DropParts();

  const int64_t opened_ns_;
  std::deque<size_t> unconsumed_;  // sizes
  size_t unconsumed_bytes_ = 0;
  bool started_ = false;  // a frame has arrived
  bool heard_ = false;    // a message has
  bool ending_ = false;
};

}  // namespace cairn::net

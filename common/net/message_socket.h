// The blocking side of a ControlConnection (control_connection.h): one socket to the master, on which a
// client's session or a chunkserver's control stream sends and receives whole messages. The thread that has
// something to say writes it itself and a reader thread sits in recv, so that a round trip costs one wake-up
// here.
//
// Thread-safety: one reader and one writer at a time, which may be different threads; Cancel and end from any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/net/control_connection.h"
#include "common/net/socket.h"
#include "common/status.h"

namespace cairn::net {

class MessageSocket {
 public:
  struct Options {
    int64_t connect_timeout_ms = 3'000;
    // A peer that says nothing, or takes nothing, for so long is given up; 0: never.
    int64_t silence_ms = 0;
    bool chunkserver = false;                 // tells the master that a chunkserver speaks here
    std::function<bool()> give_up = nullptr;  // asked now and then while connecting
  };

  // kUnavailable with the reason when there is no connection in time.
  static Result<std::unique_ptr<MessageSocket>> Connect(const std::string& address, const Options& options);

  MessageSocket(Socket socket, int64_t silence_ms);

  // False: the stream is broken, Read will say so too.
  bool Write(std::span<const std::byte> message);
  // Nothing more will be written; what was written still arrives.
  void WritesDone();
  // Blocks for the next message, which is valid until the next Read. Empty: the stream has ended.
  std::optional<std::span<const std::byte>> Read();
  // Ends Read and Write soon.
  void Cancel();
  // Why the stream ended: as the peer said (ok: without a reason), otherwise kUnavailable, kMalformed or
  // kVersionMismatch.
  Status end() const;
  void Break(Status why);  // as if the peer had said so; the first reason stays

 private:
  bool SendFrame(ControlFrame type, std::span<const std::byte> bytes);
  bool Receive(size_t bytes);  // until so many wait to be parsed
  std::span<const std::byte> Unparsed() const {
    return {received_.data() + begin_, end_of_received_ - begin_};
  }

  // Constant after construction.
  const Socket socket_;
  const int64_t silence_ms_;
  // Of the reader. Bytes [begin_, end_of_received_) are not parsed yet.
  std::vector<std::byte> received_;
  size_t begin_ = 0;
  size_t end_of_received_ = 0;
  std::vector<std::byte> parts_;

  mutable std::mutex mu_;
  bool ended_ = false;  // guarded by mu_
  Status end_;          // guarded by mu_
};

}  // namespace cairn::net

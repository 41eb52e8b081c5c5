// The transport under a session: one bidirectional stream of messages to one master. Sockets are behind this seam
// (frame_stream.cc), so that everything above it can be driven by a scripted master in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"
#include "proto/cairn/session.pb.h"

namespace cairn::client {

// Thread-safety: one reader and one writer at a time, which may be different threads; Cancel from any thread.
// Destroyed only after Read has answered false and no Write is under way.
class MasterStream {
 public:
  virtual ~MasterStream() = default;
  // Blocks while flow control asks for it. False: the stream is broken, Read will say so too.
  virtual bool Write(const proto::ClientMessage& message) = 0;
  // Nothing more will be written; what was written still arrives.
  virtual void WritesDone() = 0;
  // Blocks for the next message. False: the stream has ended; Finish says why.
  virtual bool Read(proto::MasterMessage* message) = 0;
  // Ends Read and Write soon.
  virtual void Cancel() = 0;
  // After Read answered false. kWrongCluster and kVersionMismatch are final, everything else is worth another
  // attempt.
  virtual Status Finish() = 0;
};

class MasterConnector {
 public:
  virtual ~MasterConnector() = default;
  // Opens a stream to `address` (host:port). kUnavailable with the reason when there is no connection in
  // time.
  virtual Result<std::unique_ptr<MasterStream>> Open(const std::string& address, int64_t timeout_ms) = 0;
};

std::unique_ptr<MasterConnector> MakeFrameConnector();

}  // namespace cairn::client

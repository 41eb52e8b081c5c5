// What arrives from clients and chunkservers, taken apart on the core thread. Everything in a message is
// checked here or by the state machine; nothing a peer sends is asserted.
//
// Thread-safety: core thread only.
#pragma once

#include <memory>
#include <string>

#include "master/core/channels.h"
#include "master/core/core.h"

namespace cairn::master {

class SessionMessages {
 public:
  static void Handle(Core& core, const std::shared_ptr<SessionChannel>& channel,
                     proto::ClientMessage& message);
  // A Hello that was held until the end of the log was back.
  static void Resume(Core& core, const LogTail::Held& held);

 private:
  static void OnHello(Core& core, const std::shared_ptr<SessionChannel>& channel, const proto::Hello& hello);
  static void Answer(Core& core, const std::shared_ptr<SessionChannel>& channel, const proto::Hello& hello,
                     uint32_t lost_commands);
  static void OnRequest(Core& core, Session& session, proto::Request& request);
  static void OnRenew(Core& core, Session& session, const proto::Renew& renew);
  static void OnRecallReply(Core& core, Session& session, const proto::RecallReply& reply);
  static void TakeClaims(Core& core, Session& session, const proto::Hello& hello, bool after_restart,
                         proto::HelloReply* reply);
};

class ServerMessages {
 public:
  static void Handle(Core& core, const std::shared_ptr<ServerChannel>& channel,
                     proto::ChunkserverMessage& message);
  static void Closed(Core& core, const std::shared_ptr<ServerChannel>& channel, const std::string& reason);
  static void Down(Core& core, ServerInfo& server, const std::string& reason);
  // Clients hear of the servers: addresses, places, who is up.
  static void TellSessions(Core& core);

 private:
  static void OnRegister(Core& core, const std::shared_ptr<ServerChannel>& channel,
                         const proto::Register& request);
  static void OnHeartbeat(Core& core, ServerInfo& server, const proto::Heartbeat& heartbeat);
};

// Creates the operation for a request.
std::unique_ptr<Operation> MakeOperation(Core& core, SessionId session, proto::Request request);

}  // namespace cairn::master

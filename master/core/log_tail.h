// The end of the log that a loss of power takes away comes back from the clients.
//
// A mutation is answered when it survives a crash of this process; the log is synced up to 50 ms later. What
// sessions caused in between travels to them as KeptCommand beside the reply: the command itself, with its
// ids, under a message authentication code. A client keeps it until durable_index covers it.
//
//   power is lost with the commands 951..1000 only in memory; the recovered log ends at 950
//   Hello of session A with 951, 953, .. -> held: nothing is answered while sessions are still missing
//   Hello of session B with 952, ..      -> all are here (or the grace period is over):
//   951, 952, 953, .. are applied in their order and synced, then the Hellos are answered
//
// After a crash of the process alone nothing that clients bring is newer than the log, and nothing is held.
// What is still missing then (a client died as well) is counted in HelloReply.lost_commands.
// Thread-safety: core thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/core/channels.h"
#include "proto/cairn/log.pb.h"
#include "proto/cairn/session.pb.h"

namespace cairn::master {

class Core;

// Under it lies in which boot of the machine the log was last known to be whole. A restored backup has none.
inline constexpr std::string_view kTailBootKey = "master/tail_boot";

class LogTail {
 public:
  explicit LogTail(Core& core) : core_(core) {}

  // At the start, before anything is applied: where the recovered log ends, and the key. Writes both into the
  // transaction; they must be durable before the first command is kept. Answers the incarnation to use:
  // `wanted`, or higher if the clock went back.
  Result<uint64_t> Start(uint64_t wanted, uint64_t recovered_index);

  // A command was applied: remembered for the session that caused it, if one did.
  void Keep(uint64_t log_index, const proto::LogCommand& command, bool refused);
  // Puts what was remembered into the messages of this round, or into new ones.
  using Outbox = std::vector<std::pair<std::shared_ptr<SessionChannel>, proto::MasterMessage>>;
  void Attach(Outbox* outbox);

  // Takes the lost commands out of a Hello. True: there were some, or others may still bring some, and the Hello is answered by Run.
  bool Hold(const std::shared_ptr<SessionChannel>& channel, const proto::Hello& hello);
  void Closed(const SessionChannel* channel);
  bool HasHeld() const { return !held_.empty(); }
  // The machine booted, and clients may still bring what is missing here: nobody is told anything meanwhile.
  bool MayBeMissing() const { return may_be_missing_; }
  // The same, also when everybody is back: whoever brought nothing may have seen what nobody brought.
  bool MayHaveBeenLost() const { return may_have_been_lost_; }
  // All are here or their time is over.
  void Complete();
  // Applies what was brought, in order. The Hellos to answer now are returned; lost_commands says for each
  // session how many of its commands could not be applied as they were before.
  struct Held {
    std::shared_ptr<SessionChannel> channel;
    proto::Hello hello;
    uint32_t lost_commands = 0;
  };
  std::vector<Held> Run();

 private:
  bool Lost(const proto::KeptCommand& kept) const;
  std::string Mac(const proto::KeptCommand& kept) const;
  bool Parse(const proto::KeptCommand& kept, SessionId session, proto::LogCommand* command) const;

  Core& core_;
  uint64_t incarnation_ = 0;
  bool may_be_missing_ = false;
  bool may_have_been_lost_ = false;
  std::string key_;
  std::map<uint64_t, uint64_t> recovered_;  // incarnation -> index at which its log was found to end
  std::map<SessionId, std::vector<proto::KeptCommand>> outbox_;
  struct Brought {
    proto::LogCommand command;
    bool refused = false;
  };
  std::map<std::pair<uint64_t, uint64_t>, Brought> brought_;  // by incarnation and index
  std::map<SessionId, Held> held_;
};

// The session that a command acts for; 0: the master's own doing.
SessionId SessionOf(const proto::LogCommand& command);

}  // namespace cairn::master

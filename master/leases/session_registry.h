// The sessions of clients: which are alive, on which stream, and the grace period after a start of the
// master.
//
// A session lives `lease_ns` after the last renewal that arrived here, plus a margin for clocks that run at
// different speed: the client counts from *sending* the renewal, so it stops first. Sessions that were
// recorded before a restart are "missing" until they say Hello again; while one is missing, and at most for
// the grace period, nothing may be given away that a missing session could still hold.
//
// Thread-safety: none; owned by the master's core thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/ids.h"
#include "common/service_rules.h"
#include "master/leases/inode_queue.h"

namespace cairn::master {

class SessionChannel;

struct Session {
  SessionId id;
  std::string client_name;
  std::string host_id;
  std::string host;        // address of its machine, as its stream says; empty: not connected yet
  int64_t renewed_ns = 0;  // when the last sign of life that counts arrived
  int64_t expires_ns = 0;
  bool missing = false;                     // recorded before this start, not heard of yet
  bool returned = false;                    // said Hello after it was missing, which is not answered yet
  bool held = false;                        // its Hello waits for those still missing: it does not expire
  bool ended = false;                       // expired or closed; its write leases are being recovered
  std::string doomed;                       // why it is not renewed any more; empty: it is
  std::shared_ptr<SessionChannel> channel;  // null while disconnected
  std::unordered_map<uint64_t, OperationId> in_flight;  // request number -> operation
  uint64_t servers_version = 0;                         // of the server list sent last
  uint64_t requests = 0;                                // since it connected, for people
};

class SessionRegistry {
 public:
  struct Options {
    int64_t lease_ns = 10'000'000'000;
    ServiceRules rules;
    int64_t drift_ns = 300'000'000;  // clocks: 1 % of the lease and the delay of one wake-up
  };

  explicit SessionRegistry(const Options& options) : options_(options) {}

  // A session found in the recorded state at start.
  void AddMissing(SessionId id, std::string client_name, std::string host_id);
  // Starts the grace period (call after all AddMissing). Without missing sessions there is none.
  void StartGrace(int64_t now_ns);
  // Nanoseconds of grace left; 0 when new leases may be granted. Ends at once when the last missing session
  // is back or gone.
  int64_t GraceLeft(int64_t now_ns) const;
  bool InGrace(int64_t now_ns) const { return GraceLeft(now_ns) > 0; }

  Session& Add(SessionId id, std::string client_name, std::string host_id, int64_t now_ns);
  Session* Find(SessionId id);
  Session* FindByChannel(const SessionChannel* channel);
  // Binds the session to a stream; a missing one is back, and it is renewed.
  void Attach(Session& session, std::shared_ptr<SessionChannel> channel, int64_t now_ns);
  // A missing session is back, but not bound to a stream yet.
  void MarkPresent(Session& session, int64_t now_ns);
  void Detach(Session& session);
  void Renew(Session& session, int64_t now_ns);
  // Sessions past their time, and at the end of the grace period those still missing. Ended ones are not
  // repeated.
  std::vector<SessionId> Expired(int64_t now_ns) const;
  // Marks as ended: not alive any more, kept until Remove.
  void End(Session& session);
  void Remove(SessionId id);

  // Earliest moment at which Expired may answer something new.
  int64_t NextDeadline() const;
  size_t alive() const;
  size_t OfHost(const std::string& host) const;
  const std::map<SessionId, Session>& all() const { return sessions_; }
  const Options& options() const { return options_; }

 private:
  const Options options_;
  int64_t grace_end_ns_ = 0;
  size_t missing_ = 0;
  std::map<SessionId, Session> sessions_;
  std::unordered_map<const SessionChannel*, SessionId> by_channel_;
};

}  // namespace cairn::master

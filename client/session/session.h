// One client's session with the master: numbered requests and replies, recalls and renewals on one stream.
//
//   Session session(options, connector, observer, clock);
//   session.Start();                                    // first contact; kUnavailable with the reason after
//   connect_timeout_ms auto reply = session.Call(request);                 // blocks until the reply, an
//   interruption or the time limit
//
// Exactly once. A request keeps its number until its reply has arrived. When the stream breaks the session is
// resumed, at the same master or the next address, and every request without a reply is sent again under its
// old number; the master answers repeats from its table of results. A caller that gave up waiting leaves its
// request there: the reply still counts (it may grant a lease). What the master
// answered but has not synced yet is kept here as the commands that it sent along, and handed to its next
// incarnation: a loss of its power takes nothing away that a living client was told (master/core/log_tail.h).
//
// Order. Everything the master sends is handled by one thread, in order: the observer hears of a reply (and
// of the leases in it) before the caller wakes up and before a recall that came after it. This is what makes
// a recall of a lease that was granted a moment ago meaningful.
//
// Time. All leases live lease_ms from the moment the last answered renewal was *sent*, by CLOCK_BOOTTIME;
// ValidUntilNanos is earlier by a margin of 5 %, so that the client stops using them before the master gives
// them away (lease_term.h).
//
// Thread-safety: all methods may be called from any thread, except that an observer must not call Call.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/session/lease_term.h"
#include "client/session/stream.h"
#include "common/clock.h"

namespace cairn::client {

struct SessionOptions {
  std::vector<std::string> masters;
  std::string name;
  std::string host_id;
  int64_t request_timeout_ms = 30'000;
  int64_t connect_timeout_ms = 10'000;
  int64_t backoff_min_ms = 50;
  int64_t backoff_max_ms = 1'000;
  size_t max_outstanding = 4'096;  // requests without a reply; callers wait beyond it
};

struct ResumeClaims {
  std::vector<proto::LeaseClaim> leases;
  std::vector<uint64_t> open_inodes;
};

// Called by the session's reader thread, in the order of the stream, with no lock of the session held. Must
// not block.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  // Before a session is resumed: what this client still holds.
  virtual ResumeClaims Claims() = 0;
  virtual void OnReply(const proto::Request& request, const proto::Reply& reply) = 0;
  virtual void OnRecall(const proto::Recall& recall) = 0;
  virtual void OnReconfigured(const proto::Reconfigured& notice) = 0;
  virtual void OnServers(const google::protobuf::RepeatedPtrField<proto::ServerAddress>& servers) = 0;
  // Programs elsewhere read what is cached here.
  virtual void OnAccessed(const proto::AccessedOp&) {}
  // The session goes on. `restarted`: the master is another incarnation and knows only the leases claimed
  // (except those rejected). `lost_tail`: it also forgot mutations that it had answered (power loss): what
  // was cached may never have happened.
  virtual void OnResumed(const proto::HelloReply& reply, bool restarted, bool lost_tail) = 0;
  // The master does not know the session any more: every lease is lost, and every file lock.
  virtual void OnSessionLost() = 0;
  // File locks: decided, lost, or to be given back; and what to claim when the session is resumed.
  virtual void OnLockNotice(const proto::Notice&) {}
  virtual void AddLockClaims(proto::Hello*) {}
};

struct CallOptions {
  int64_t timeout_ms = 0;  // 0: the session's request_timeout_ms
  // Run by the reader thread after the observer and before the caller wakes up, only if the caller still
  // waits and the reply is no error. For taking what the reply grants before a recall that follows it is
  // handled. Must not block.
  std::function<void(const proto::Reply&)> on_reply;
  bool raw = false;  // give the reply to the caller also when its status is an error
};

class Session {
 public:
  Session(SessionOptions options, MasterConnector* connector, SessionObserver* observer, const Clock* clock);
  ~Session();  // Stop(false)
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Status Start();
  // Ends all waits with kCancelled; with `goodbye` tells the master that the session is over.
  void Stop(bool goodbye);

  // The reply, if its status is ok, otherwise that status. kTimeout: sent, but not answered in time.
  // kUnavailable: not even sent. kMayHaveCommitted: a mutation whose session was lost. kInterrupted: see
  // InterruptScope.
  Result<proto::Reply> Call(proto::Request request, const CallOptions& options = {});
  // Sends a request that nobody waits for: only the observer hears of the reply. It is sent again, also in a new session, until
  // there is one. With `elsewhere` another thread writes it (for callers that must not block, as the observer).
  void Post(proto::Request request, bool elsewhere);
  // The same in two steps, for work that goes on meanwhile. Every ticket is to be waited for; Wait counts the time limit
  // from Begin. Requests leave in the order of Begin.
  class Ticket;
  Result<Ticket> Begin(proto::Request request, const CallOptions& options = {});
  Result<proto::Reply> Wait(const Ticket& ticket);
  // Dropped while there is no stream: the master recalls again what was not answered when the session is
  // resumed.
  void SendRecallReply(proto::RecallReply reply);

  // Whether every mutation answered up to `log_index` is on the master's disk.
  bool Durable(uint64_t log_index) const { return log_index <= durable_index(); }
  // The newest mutation answered to this session.
  uint64_t newest_index() const { return newest_index_.load(std::memory_order_relaxed); }

  // Until when leases may be used, on the clock given.
  int64_t ValidUntilNanos() const { return term_.valid_until_ns(); }
  bool LeasesValid() const { return clock_->NowNanos() < ValidUntilNanos(); }
  // Waits until leases may be used again (or were lost and a new session began).
  Status WaitLeasesValid(int64_t timeout_ms);

  // True once after the master lost changes of this session for good: what is synced next must say so.
  bool TakeLostCommands() { return lost_commands_.exchange(0) != 0; }

  uint64_t requests() const { return requests_.load(std::memory_order_relaxed); }
  uint64_t durable_index() const { return durable_index_.load(std::memory_order_relaxed); }
  int64_t write_timeout_ms() const { return write_timeout_ms_.load(std::memory_order_relaxed); }
  bool squash_root() const { return squash_root_.load(std::memory_order_relaxed); }
  std::string cluster_id() const;
  std::string State() const;  // "connected", or what it is waiting for
  // Breaks the present stream, as a failing network would; the session resumes by itself.
  void BreakStream();

 private:
  // A request without a delivered reply. Guarded by mu_, except that `message` never changes once it was
  // queued.
  struct Pending {
    std::shared_ptr<proto::ClientMessage> message;
    std::function<void(const proto::Reply&)> on_reply;
    std::condition_variable done_cv;
    bool raw = false;
    bool written = false;    // at least once, on some stream
    bool abandoned = false;  // the caller gave up
    bool applying = false;   // the reader thread is at it
    bool done = false;
    Status failure;
    proto::Reply reply;
  };
  struct Outgoing {
    std::shared_ptr<const proto::ClientMessage> message;
    std::shared_ptr<Pending> call;  // null for anything but a request
  };
  using SteadyTime = std::chrono::steady_clock::time_point;

  void ReaderMain();
  void KeeperMain();
  // One life of one stream. Ok when the next attempt should follow without backoff.
  Status RunStream(const std::string& address);
  Status Handshake(const std::shared_ptr<MasterStream>& stream, const std::string& address,
                   bool* established);
  void Established(const std::shared_ptr<MasterStream>& stream, const proto::HelloReply& reply,
                   int64_t sent_ns);
  void HandleMessage(proto::MasterMessage& message);
  // Takes over the commands that are not on the master's disk yet, and forgets those that are.
  void Keep(proto::MasterMessage& message);
  void HandleReply(proto::Reply& reply);
  void HandleRenewed(const proto::RenewReply& reply);
  void FailForLostSession();
  void EnqueueRenew(SteadyTime now);
  Result<proto::Reply> Await(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Pending>& call,
                             SteadyTime deadline);
  // Writes what is queued, unless another thread is doing so. Called with the lock held; releases it while
  // writing.
  void Drain(std::unique_lock<std::mutex>& lock);

  // Constant after construction.
  const SessionOptions options_;
  MasterConnector* const connector_;
  SessionObserver* const observer_;
  const Clock* const clock_;

  LeaseTerm term_;  // guarded by mu_, but for valid_until_ns()
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> durable_index_{0};
  std::atomic<int64_t> write_timeout_ms_{10'000};
  std::atomic<bool> squash_root_{false};
  std::atomic<uint64_t> newest_index_{0};  // of the mutations answered

  std::atomic<uint32_t> lost_commands_{0};

  // Owned by the reader thread: in order of the master's log, oldest first.
  std::deque<proto::KeptCommand> kept_;
  size_t kept_bytes_ = 0;

  mutable std::mutex mu_;
  std::condition_variable changed_;  // stream state, validity, stopping
  std::condition_variable keeper_wake_;
  // Guarded by mu_:
  std::shared_ptr<MasterStream> stream_;  // being set up or in use
  bool ready_ = false;                    // hello was answered: requests may be written
  SteadyTime stream_since_{};             // when it was opened
  bool writing_ = false;
  std::deque<Outgoing> queue_;  // bounded by max_outstanding plus recalls under way
  std::map<uint64_t, std::shared_ptr<Pending>> pending_;
  uint64_t next_number_ = 1;
  SteadyTime oldest_renewal_{};           // of those not answered
  SteadyTime next_renewal_{};
  bool renew_now_ = false;
  uint64_t session_ = 0;
  uint64_t incarnation_ = 0;
  int64_t lease_ms_ = 10'000;
  std::string cluster_id_;
  Status last_error_;
  bool final_error_ = false;  // trying again cannot help (first contact only)
  bool stopping_ = false;

  std::thread reader_;
  std::thread keeper_;
};

class Session::Ticket {
 private:
  friend class Session;
  std::shared_ptr<Pending> call_;
  SteadyTime deadline_;
};

}  // namespace cairn::client

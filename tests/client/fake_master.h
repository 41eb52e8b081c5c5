// A master in memory behind the stream seam: a small namespace, leases per session, exactly-once results, and
// the faults that tests ask for. One FakeMaster may serve several clients. Thread-safety: all methods may be
// called from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "client/session/stream.h"

namespace cairn::client::testing {

class FakeMaster {
 public:
  FakeMaster();

  // Each client needs a connector of its own.
  std::unique_ptr<MasterConnector> Connector();

  // What a test prepares.
  uint64_t AddDirectory(uint64_t parent, const std::string& name, uint32_t mode = 0755, uint32_t uid = 0,
                        uint32_t gid = 0);
  uint64_t AddFile(uint64_t parent, const std::string& name, uint32_t mode = 0644, uint32_t uid = 0,
                   uint32_t gid = 0, uint64_t size = 0);
  void SetChunkBytes(uint64_t inode, uint64_t bytes);
  proto::Attr AttrOf(uint64_t inode);
  bool Exists(uint64_t inode);
  bool NameExists(uint64_t parent, const std::string& name);

  // Faults.
  void DropNextReplies(int count);  // carried out, but the stream breaks instead of the reply
  void RefuseConnections(bool refuse);
  void ForgetSessions();  // breaks all streams; hello is answered session_unknown
  void Restart();         // another incarnation; read leases are forgotten
  void SilenceRenewals(bool silent);
  // What is carried out from now on is not on its disk until a request asks for that.
  void HoldBackDurability(bool hold);
  void BreakStreams();
  // The next request of this kind waits until ReleaseHeld.
  void Hold(proto::Request::OpCase op);
  void ReleaseHeld();

  // Sends a recall of what `session` holds on the inode. False: nothing.
  bool Recall(uint64_t inode, proto::LeaseMode keep, bool deleting = false);
  // Sends a message as it is, to every session.
  void Broadcast(const proto::MasterMessage& message);
  // Waits for the next RecallReply with done on the inode.
  proto::RecallReply AwaitRecallReply(uint64_t inode);
  std::vector<proto::RecallReply> recall_progress();

  // What happened.
  int Count(proto::Request::OpCase op);
  int Total();    // requests carried out or repeated
  int Repeats();  // answered from the stored results
  void ResetCounts();
  std::vector<proto::Hello> hellos();
  std::vector<proto::ReleaseItem> released();
  std::vector<uint64_t> closed_orphans();
  std::vector<proto::InodeCommit> commits();
  std::vector<proto::LeaseOp> lease_requests();
  std::vector<proto::AccessTime> accessed();
  void SetTimes(uint64_t inode, int64_t atime_s, int64_t mtime_s);  // ctime is mtime
  bool WaitFor(
      const std::function<bool()>& condition);  // evaluated with the lock held; re-evaluated on every message
  bool Holds(uint64_t inode);                   // any session

 private:
  friend class FakeStream;
  struct Inode {
    proto::Attr attr;
    std::map<std::string, uint64_t> children;
    std::string target;
    std::vector<proto::ChunkLayout> layout;
    bool orphan = false;
  };
  struct Held {
    proto::LeaseMode mode = proto::LEASE_NONE;
    uint64_t number = 0;
  };
  struct Channel {
    std::mutex mu;
    std::condition_variable changed;
    std::deque<proto::MasterMessage> outbox;
    bool broken = false;
    uint64_t session = 0;
  };
  struct SessionState {
    std::shared_ptr<Channel> channel;
    std::map<uint64_t, proto::Reply> results;
    std::map<uint64_t, Held> leases;
    bool missing = false;
  };

  void Handle(const std::shared_ptr<Channel>& channel, const proto::ClientMessage& message);
  void HandleHello(const std::shared_ptr<Channel>& channel, const proto::Hello& hello);
  void HandleRequest(const std::shared_ptr<Channel>& channel, const proto::Request& request);
  proto::Reply Execute(SessionState& session, const proto::Request& request);
  Status ExecuteNamespace(SessionState& session, const proto::Request& request, proto::Reply* reply);
  Status ExecuteFile(SessionState& session, const proto::Request& request, proto::Reply* reply);
  uint64_t Add(uint64_t parent, const std::string& name, proto::FileType type, uint32_t mode, uint32_t uid,
               uint32_t gid);
  void Grant(SessionState& session, uint64_t inode, proto::LeaseMode mode, proto::Reply* reply);
  Status CheckSearch(uint64_t directory, const proto::Credentials& caller);
  void Send(const std::shared_ptr<Channel>& channel, proto::MasterMessage message);
  void Break(const std::shared_ptr<Channel>& channel);

  std::recursive_mutex mu_;
  std::condition_variable_any changed_;
  std::map<uint64_t, Inode> inodes_;
  std::map<uint64_t, SessionState> sessions_;
  uint64_t next_inode_ = 2;
  uint64_t next_number_ = 100;
  uint64_t next_session_ = 1;
  uint64_t incarnation_ = 1;
  uint64_t log_index_ = 0;
  uint64_t durable_index_ = 0;
  bool hold_durability_ = false;
  int drop_replies_ = 0;
  int repeats_ = 0;
  bool refuse_ = false;
  bool silent_ = false;
  proto::Request::OpCase hold_ = proto::Request::OP_NOT_SET;
  std::vector<std::pair<std::shared_ptr<Channel>, proto::Request>> held_;
  std::map<proto::Request::OpCase, int> counts_;
  std::deque<proto::RecallReply> recall_replies_;
  std::vector<proto::RecallReply> recall_progress_;
  std::vector<proto::Hello> hellos_;
  std::vector<proto::ReleaseItem> released_;
  std::vector<uint64_t> closed_orphans_;
  std::vector<proto::InodeCommit> commits_;
  std::vector<proto::LeaseOp> lease_requests_;
  std::vector<proto::AccessTime> accessed_;
};

}  // namespace cairn::client::testing

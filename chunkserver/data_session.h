// One connection of the data plane: greeting, dispatch of requests, and the bounds on what it may have in
// work.
//
// Thread-safety: everything on the connection's loop; the pool's answers are posted to it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "chunkserver/data_metrics.h"
#include "chunkserver/request_handler.h"
#include "chunkserver/stager.h"
#include "chunkserver/staging_area.h"
#include "chunkserver/worker_pool.h"
#include "common/net/event_loop.h"
#include "common/net/frame_connection.h"

namespace cairn::chunkserver {

struct SessionLimits {
  size_t max_requests_in_work;
  size_t max_answer_bytes;
  DataMetrics* metrics = nullptr;  // may be null
  StagingLimits staging;
};

class DataSession final : public net::FrameConnection::Owner,
                          public std::enable_shared_from_this<DataSession> {
 public:
  // Greetings are small; before one nothing else is taken.
  static constexpr uint32_t kMaxGreetingBytes = 4096;

  // `closed` is told once; `slot` counts the connection until then.
  DataSession(net::EventLoop* loop, const RequestHandler* handler, WorkerPool* readers, Stager* stager,
              std::shared_ptr<StagingBudget> staging, SessionLimits limits, std::shared_ptr<void> slot,
              std::function<void(net::FrameConnection&)> closed);
  ~DataSession() override;

  void OnFrame(net::FrameConnection& connection, net::Frame frame) override;
  void OnSendQueueShort(net::FrameConnection& connection) override;
  void OnClosed(net::FrameConnection& connection, const Status& why) override;

  bool greeted() const { return greeted_; }
  size_t requests_in_work() const { return in_work_; }
  int64_t started_ns() const { return started_ns_; }
  // Lets go of what was staged and not used for long.
  void ExpireStaged(int64_t now_ns) { staged_.Expire(now_ns); }

 private:
  struct Reply {
    wire::Bytes meta;
    net::SharedBytes data;
  };

  Status Handle(net::FrameConnection& connection, const net::Frame& frame);
  Status Greet(net::FrameConnection& connection, const net::Frame& frame);
  Status Read(net::FrameConnection& connection, const net::Frame& frame);
  Status Digests(net::FrameConnection& connection, const net::Frame& frame);
  Status Extents(net::FrameConnection& connection, const net::Frame& frame);
  Status Flush(net::FrameConnection& connection, const net::Frame& frame);
  Status Stage(net::FrameConnection& connection, const net::Frame& frame);
  Status MutateStaged(net::FrameConnection& connection, const net::Frame& frame);
  // Runs `work` in the pool and sends what it returns. answer_bytes: how large the answer may get.
  void RunInPool(net::FrameConnection& connection, const net::Frame& frame, size_t answer_bytes,
                 std::function<Reply()> work, std::function<Reply(const Status&)> refuse);
  // `began_ns`: when the request was read.
  void Finished(net::FrameConnection& connection, uint8_t type, uint64_t request_id, size_t answer_bytes,
                int64_t began_ns, Reply reply);
  // An answer, for the metrics and for the log, if it took long.
  void Count(uint8_t type, uint64_t request_id, int64_t began_ns, uint64_t bytes) const;
  void LogMutation(const wire::MutateRequest& request, uint64_t request_id, const wire::MutateReply& reply) const;
  void Send(net::FrameConnection& connection, const net::Frame& frame, wire::Bytes meta);
  void UpdateReading(net::FrameConnection& connection);

  net::EventLoop* const loop_;
  const RequestHandler* const handler_;
  WorkerPool* const readers_;
  Stager* const stager_;
  const SessionLimits limits_;
  const int64_t started_ns_;
  std::shared_ptr<void> slot_;
  std::function<void(net::FrameConnection&)> closed_;
  bool greeted_ = false;
  int64_t frame_began_ns_ = 0;  // when the frame that is handled now was read
  std::string name_;
  size_t in_work_ = 0;
  size_t answer_bytes_ = 0;  // of requests in work
  StagingArea staged_;
};

}  // namespace cairn::chunkserver

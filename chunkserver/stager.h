// Gets the bytes of a stage request: from the own replica when it is at the stamp, otherwise from one of the carriers that the
// request names. Either way they were checked against the source's stored checksums when they are handed on, together with the
// checksums that they have at their new place.
//
// The carriers' addresses come from a client, which knows them from the master. They are believed as far as a connection goes: whoever
// answers must be the named server of this cluster (the greeting), and what it sends must match its checksums.
//
// Thread-safety: Stage may be called from any thread; it does not block.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <vector>

#include "chunkserver/disk_set.h"
#include "chunkserver/request_handler.h"
#include "chunkserver/worker_pool.h"
#include "common/clock.h"
#include "common/net/data_client.h"

namespace cairn::chunkserver {

struct StagedBytes {
  Status status;
  net::SharedBytes data;  // `length` bytes
  std::vector<uint32_t> checksums;
};

class Stager {
 public:
  using Done = std::function<void(StagedBytes)>;

  // `peers` may be null: then only what is here can be staged. Everything outlives the stager and its work.
  Stager(const DiskSet* disks, WorkerPool* pool, net::DataClient* peers, DamageSink damage, const Clock* clock)
      : disks_(disks), pool_(pool), peers_(peers), damage_(std::move(damage)), clock_(clock) {}

  // `done` runs once, on some thread.
  void Stage(wire::StageRequest request, Done done);

 private:
  struct Work;

  StagedBytes FromHere(const wire::StageRequest& request) const;
  void AskNext(const std::shared_ptr<Work>& work, Status failure);
  void OnReply(const std::shared_ptr<Work>& work, const Status& transport, std::span<const std::byte> meta,
               net::SharedBytes data);
  // In the pool: whoever may wait for a disk and compute checksums. Without room there: `work` ends.
  void RunInPool(const std::shared_ptr<Work>& work, std::function<void()> task);
  bool MayAsk(ServerId server);

  const DiskSet* const disks_;
  WorkerPool* const pool_;
  net::DataClient* const peers_;
  const DamageSink damage_;
  const Clock* const clock_;
  std::mutex mu_;
  std::set<ServerId> asked_;  // guarded by mu_; bounds the connections that clients can make this server open
};

}  // namespace cairn::chunkserver

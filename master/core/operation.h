// One thing that the master has under way and that may have to wait: for recalls, for chunkservers, for
// durability.
//
// The core calls Step when the operation starts and again whenever something it waits for may have changed.
// Step looks at the state from the beginning, registers what it waits for, and returns kFinished once it has
// answered. Nothing blocks.
//
// Thread-safety: none; operations live on the core thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "master/leases/inode_queue.h"

namespace cairn::master {

class Core;

enum class Progress : uint8_t { kWaiting, kFinished };

class Operation {
 public:
  virtual ~Operation() = default;
  virtual Progress Step(Core& core) = 0;
  // The session that asked has ended: nobody waits for the answer. An operation that only serves this session
  // finishes; one that must be brought to an end in the cluster (tombstones, configurations) goes on.
  virtual void OnSessionEnded(Core& core) {}
  // What it waits for, for the messages of those who wait for it in turn. Empty: nothing to tell.
  virtual std::string WaitReason() const { return {}; }

  OperationId id = 0;
  SessionId session;  // zero: the master's own
};

}  // namespace cairn::master

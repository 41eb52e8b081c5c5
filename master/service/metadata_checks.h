// Checks of the metadata that are under way, page by page, and the repairs planned by them. A check runs over one snapshot for all its
// pages: the cursor names it.
//
// Thread-safety: any thread. Answers come on the caller's thread, those of repairs on the core's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "master/state/fsck_plan.h"
#include "master/store/meta_txn.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {

class Core;

class MetadataChecks {
 public:
  using Answer = std::function<void(proto::FsckResponse)>;

  // Must not outlive `core`.
  explicit MetadataChecks(Core* core) : core_(core) {}
  void Page(const proto::FsckRequest& request, Answer answer);

 private:
  struct Check {
    std::unique_ptr<MetaReader> reader;
    std::chrono::steady_clock::time_point used;
    proto::FsckMode mode = proto::FSCK_CHECK;
    RepairPlan plan;
    bool planned = false;  // everything was checked: `repairs` follow
    std::vector<PlannedRepair> repairs;
    size_t next = 0;
    std::unique_ptr<MetaTxn> trial;  // preview: the snapshot with what was repaired so far
  };

  Status Find(const proto::FsckRequest& request, uint64_t* id, std::string* inner);
  Status CheckNext(Check& check, const proto::FsckRequest& request, const std::string& inner, proto::FsckResponse* response);
  std::vector<PlannedRepair> NextRepairs(Check& check);
  static void Preview(Check& check, std::vector<PlannedRepair> repairs, proto::FsckResponse* response);
  void Repair(uint64_t id, std::vector<PlannedRepair> repairs, const std::string& by, Answer answer);
  // Sets the cursor, or forgets a check that is done.
  void GoOn(uint64_t id, bool done, const std::string& inner, proto::FsckResponse* response);

  Core* const core_;
  std::mutex mu_;
  std::map<uint64_t, Check> checks_;  // guarded by mu_
  uint64_t next_ = 1;                 // guarded by mu_
};

}  // namespace cairn::master

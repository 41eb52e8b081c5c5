// Which disks a server has, and which it had: a disk that is left off the command line is not forgotten silently. Pure.
//
//   recorded, and registered with     -> there (a missing one is back)
//   registered with, not recorded     -> new
//   recorded, not registered with     -> replaced, when a new disk stands at the same path and says itself that it may lack something
//                                        (a server that finds an empty disk distrusts all of them); otherwise missing
//
// A disk that is there but cannot be read registers as failed at its path, without an identity: it is not missing.
//
// While a disk is missing nobody can tell which chunks its server never had. So the server is given an epoch floor, as after a loss of
// power, until it says that it took it; its replicas are no full votes until they were written or synced again.
//
// Thread-safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "proto/cairn/cluster.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

using DiskRecords = google::protobuf::RepeatedPtrField<proto::DiskRecord>;
using DiskInfos = google::protobuf::RepeatedPtrField<proto::DiskInfo>;

struct RosterChange {
  DiskRecords disks;                 // the roster from now on
  bool changed = false;              // it differs from what was recorded
  std::vector<std::string> missing;  // uuids that the server has to be given an epoch floor for
  std::vector<std::pair<std::string, std::string>> events;  // kind, text without the server's name
};

RosterChange ReconcileDisks(const DiskRecords& recorded, const DiskInfos& registered, const proto::Time& now);

}  // namespace cairn::master

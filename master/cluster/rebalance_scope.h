// What a rebalancing is limited to: which servers give and take, and which chunks move.
//
// Moves stay among the servers of the scope; the others keep what they have, but are still looked at where a copy of theirs is in
// the way of a failure domain. A path chooses what moves, not what is evened out: servers are compared by all that they hold. A
// storage class does both, because disks of another class have nothing to do with it.
//
// Thread-safety: none; one owner.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/cluster/rebalance_planner.h"
#include "master/cluster/server_registry.h"
#include "master/store/meta_store.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

class BalanceScope {
 public:
  BalanceScope() = default;
  explicit BalanceScope(const proto::RebalanceScope& scope) : scope_(scope) {}

  // kNotFound: a server, rack, zone or directory that is not there. kFailedPrecondition: fewer than two servers could take part; says
  // what keeps each of the others away.
  Status Check(const MetaReader& reader, const ServerRegistry& servers) const;
  // All servers, with their use as the scope counts it.
  std::vector<BalanceServer> Servers(const ServerRegistry& servers) const;
  // May this chunk move at all?
  bool Covers(const MetaReader& reader, const proto::ChunkRecord& record, const proto::Policy& policy) const;
  // "between cs1, rack B; files below /scratch; storage class ssd"; empty: the whole cluster.
  std::string Text(const MetaReader& reader) const;

 private:
  bool limits_servers() const {
    return scope_.servers_size() + scope_.racks_size() + scope_.zones_size() > 0;
  }

  proto::RebalanceScope scope_;
};

}  // namespace cairn::master

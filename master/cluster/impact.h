// What it means when servers are away, or have to be emptied: a walk over the chunks that list them. Pure: a
// view of the metadata and of the servers in, numbers out; may run beside the core over a snapshot.
//
// Thread-safety: as the reader given.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "master/cluster/server_registry.h"
#include "master/store/meta_store.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::master {

// `gone`: servers counted as absent; the others are as `servers` says. bytes_per_second: expected speed of
// copying, 0: not known.
proto::Impact ComputeImpact(const MetaReader& reader, const ServerRegistry& servers,
                            const std::set<ServerId>& gone, uint64_t bytes_per_second);

// Why the action should not be done without force. Empty: nothing speaks against it.
std::vector<std::string> Refusals(proto::ServerAction action, ServerId server, bool up,
                                  const proto::Impact& impact);

}  // namespace cairn::master

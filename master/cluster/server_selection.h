// Servers that an administrator names by number, rack and zone. Thread-safety: pure function.
#pragma once

#include <set>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "master/cluster/server_registry.h"

namespace cairn::master {

// Adds them to *chosen. kNotFound: there is no such server, or no server in such a rack or zone (removed ones do not count there).
// A rack's name counts in every zone.
template <typename Servers, typename Names>
Status SelectServers(const ServerRegistry& registry, const Servers& servers, const Names& racks, const Names& zones,
                     std::set<ServerId>* chosen) {
  for (const uint32_t id : servers) {
    if (registry.Find(ServerId(id)) == nullptr)
      return {StatusCode::kNotFound, "there is no server " + ToString(ServerId(id))};
    chosen->insert(ServerId(id));
  }
  const auto add = [&](const std::string& name, const char* what, auto field) -> Status {
    bool found = false;
    for (const auto& [id, server] : registry.all()) {
      if (server.*field != name || server.mode == proto::SERVER_REMOVED) continue;
      chosen->insert(id);
      found = true;
    }
    if (found) return Status::Ok();
    return {StatusCode::kNotFound, std::string("no server is in ") + what + " '" + name + "'"};
  };
  for (const std::string& rack : racks) CAIRN_RETURN_IF_ERROR(add(rack, "rack", &ServerInfo::rack));
  for (const std::string& zone : zones) CAIRN_RETURN_IF_ERROR(add(zone, "zone", &ServerInfo::zone));
  return Status::Ok();
}

}  // namespace cairn::master

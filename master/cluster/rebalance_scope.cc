#include "master/cluster/rebalance_scope.h"

#include <algorithm>

#include "master/cluster/server_selection.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr size_t kMaxNamed = 5;

// Why it cannot take part; empty: it can.
std::string Hindrance(const BalanceServer& server, const std::string& storage_class) {
  if (!server.place.up) return "is down";
  if (!server.place.accepting) return "is drained or in maintenance";
  if (server.capacity_bytes > 0) return "";
  return storage_class.empty() ? "has no disk that works" : "has no working disk of class '" + storage_class + "'";
}

}  // namespace

std::vector<BalanceServer> BalanceScope::Servers(const ServerRegistry& servers) const {
  std::set<ServerId> chosen;
  // A rack that became empty meanwhile leaves the others.
  (void)SelectServers(servers, scope_.servers(), scope_.racks(), scope_.zones(), &chosen);
  std::vector<BalanceServer> out;
  for (const PlacementServer& place : servers.ForPlacement(scope_.storage_class())) {
    BalanceServer one{.place = place, .in_scope = !limits_servers() || chosen.contains(place.server)};
    for (const proto::DiskInfo& disk : servers.Find(place.server)->disks) {
      if (disk.failed()) continue;
      if (!HasTag(disk.storage_class(), scope_.storage_class())) continue;
      one.capacity_bytes += disk.total_bytes() - std::min(disk.total_bytes(), disk.reserve_bytes());
      one.used_bytes += disk.used_bytes();
    }
    out.push_back(std::move(one));
  }
  return out;
}

Status BalanceScope::Check(const MetaReader& reader, const ServerRegistry& servers) const {
  if (scope_.ByteSizeLong() == 0) return Status::Ok();  // a cluster of one server is balanced
  std::set<ServerId> chosen;
  CAIRN_RETURN_IF_ERROR(SelectServers(servers, scope_.servers(), scope_.racks(), scope_.zones(), &chosen));
  if (scope_.inode() != 0 && !InodeExists(reader, InodeId(scope_.inode()))) {
    return {StatusCode::kNotFound,
            "the directory that the rebalancing is limited to (inode " + std::to_string(scope_.inode()) + ") is gone"};
  }
  std::string hindered;
  size_t in_scope = 0;
  size_t taking_part = 0;
  size_t named = 0;
  for (const BalanceServer& server : Servers(servers)) {
    if (!server.in_scope) continue;
    ++in_scope;
    if (BalanceModel::TakesPart(server)) {
      ++taking_part;
    } else if (++named <= kMaxNamed) {
      hindered += (hindered.empty() ? ": " : ", ") + ToString(server.place.server) + " " +
                  Hindrance(server, scope_.storage_class());
    }
  }
  if (taking_part >= 2) return Status::Ok();
  if (named > kMaxNamed) hindered += ", and " + std::to_string(named - kMaxNamed) + " more";
  return {StatusCode::kFailedPrecondition,
          "nothing can be evened out: " + std::to_string(taking_part) + " of the " + std::to_string(in_scope) +
              (in_scope == 1 ? " server" : " servers") + " in the scope can take part" + hindered +
              "; moves stay among the servers of the scope, so it needs at least two that are up and in service"};
}

bool BalanceScope::Covers(const MetaReader& reader, const proto::ChunkRecord& record, const proto::Policy& policy) const {
  if (!scope_.storage_class().empty() && policy.storage_class() != scope_.storage_class()) return false;
  return scope_.inode() == 0 || IsBelow(reader, InodeId(record.inode()), InodeId(scope_.inode()));
}

std::string BalanceScope::Text(const MetaReader& reader) const {
  std::string text;
  const auto part = [&text](const std::string& more, const char* separator) {
    text += (text.empty() ? "" : separator) + more;
  };
  for (const uint32_t server : scope_.servers()) part(ToString(ServerId(server)), ", ");
  for (const std::string& rack : scope_.racks()) part("rack " + rack, ", ");
  for (const std::string& zone : scope_.zones()) part("zone " + zone, ", ");
  if (!text.empty()) text = "between " + text;
  if (scope_.inode() != 0) part("files below " + PathOf(reader, InodeId(scope_.inode())), "; ");
  if (!scope_.storage_class().empty()) part("storage class " + scope_.storage_class(), "; ");
  return text;
}

}  // namespace cairn::master

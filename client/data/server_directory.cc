#include "client/data/server_directory.h"

#include <algorithm>

namespace cairn::client {

void ServerDirectory::Update(const std::vector<ServerEntry>& servers) {
  std::lock_guard lock(mu_);
  for (const ServerEntry& entry : servers) servers_[entry.server] = entry;
}

std::optional<ServerEntry> ServerDirectory::Find(ServerId server) const {
  std::lock_guard lock(mu_);
  auto it = servers_.find(server);
  if (it == servers_.end()) return std::nullopt;
  return it->second;
}

std::vector<ServerEntry> ServerDirectory::All() const {
  std::vector<ServerEntry> all;
  {
    std::lock_guard lock(mu_);
    all.reserve(servers_.size());
    for (const auto& [id, entry] : servers_) all.push_back(entry);
  }
  std::sort(all.begin(), all.end(),
            [](const ServerEntry& a, const ServerEntry& b) { return a.server < b.server; });
  return all;
}

std::string ServerDirectory::Describe(ServerId server) const {
  std::optional<ServerEntry> entry = Find(server);
  if (!entry || entry->address.empty()) return ToString(server);
  return ToString(server) + " (" + entry->address + ")";
}

}  // namespace cairn::client

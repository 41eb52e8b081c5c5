// The chunkservers as the master last described them: where they are, how near, how busy.
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/data/server_trust.h"
#include "common/ids.h"

namespace cairn::client {

// Mirrors proto ServerAddress with strong types.
struct ServerEntry {
  ServerId server;
  std::string address;  // host:port of the data plane
  std::string host_id;  // machine id: equal to the client's own means same host
  std::string zone;
  std::string rack;
  bool alive = true;  // the master hears its heartbeats
  uint32_t load = 0;  // 0..1000
};

class ServerDirectory {
 public:
  // Adds servers or replaces what was known of them; servers that are not named stay as they are.
  void Update(const std::vector<ServerEntry>& servers);
  std::optional<ServerEntry> Find(ServerId server) const;
  std::vector<ServerEntry> All() const;
  // "cs3 (10.0.0.3:9410)", or "cs3" when nothing else is known: for messages to people.
  std::string Describe(ServerId server) const;
  // What this client's own reads found out about them.
  ServerTrust& trust() const { return trust_; }

 private:
  mutable ServerTrust trust_;
  mutable std::mutex mu_;
  std::unordered_map<ServerId, ServerEntry> servers_;  // guarded by mu_
};

}  // namespace cairn::client

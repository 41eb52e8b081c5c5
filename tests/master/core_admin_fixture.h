// Servers and clients in memory around the master's core, as an administrator meets them. The chunkservers decide by the real rules of
// replicas.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "master/cluster/impact.h"
#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/events.h"
#include "tests/master/fakes.h"

namespace cairn::master {

class CoreAdminTest : public testing::Test {
 protected:
  void StartServers(uint32_t count) {
    for (uint32_t i = 1; i <= count; ++i) h_.StartServer(i);
    h_.Settle();
  }
  Status Change(proto::ServerAction action, uint32_t server, uint64_t seconds = 0) {
    proto::ChangeServerRequest request;
    request.set_action(action);
    request.set_server(server);
    request.set_seconds(seconds);
    request.set_reason("test");
    request.set_operator_("tester");
    std::string outcome;
    return ApplyServerChange(h_.core(), request, Impact({server}), &outcome);
  }
  proto::Impact Impact(std::set<uint32_t> servers) {
    std::set<ServerId> gone;
    for (uint32_t server : servers) gone.insert(ServerId(server));
    return ComputeImpact(h_.core().txn(), h_.core().servers(), gone, 0);
  }
  std::vector<uint32_t> MembersOf(uint64_t chunk) {
    auto record = ChunkRecordOf(h_.core().txn(), ChunkId(chunk));
    if (!record) return {};
    std::vector<uint32_t> members(record->members().begin(), record->members().end());
    std::sort(members.begin(), members.end());
    return members;
  }
  bool HasEvent(const std::string& kind) {
    for (const NumberedEvent& event : EventsAfter(h_.core().txn(), 0, 10'000)) {
      if (event.record.kind() == kind) return true;
    }
    return false;
  }
  size_t ListedOn(uint32_t server) {
    return ChunksOfServer(h_.core().txn(), ServerId(server), ChunkId{}, 1000).size();
  }
  void AdvanceSeconds(int seconds) {
    for (int i = 0; i < seconds; ++i) h_.Advance(1000);
  }

  Harness h_;
};

}  // namespace cairn::master

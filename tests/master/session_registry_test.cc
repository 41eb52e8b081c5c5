#include "master/leases/session_registry.h"

#include <gtest/gtest.h>

#include "master/core/channels.h"

namespace cairn::master {
namespace {

class NullChannel final : public SessionChannel {
 public:
  void Send(proto::MasterMessage) override {}
  void Close(const Status&) override {}
};

SessionRegistry MakeRegistry() { return SessionRegistry({.lease_ns = 100, .drift_ns = 10}); }

TEST(SessionRegistryTest, ASessionExpiresALeaseAndTheDriftAfterItsLastRenewal) {
  SessionRegistry registry = MakeRegistry();
  Session& session = registry.Add(SessionId(1), "c", "h", 0);
  EXPECT_TRUE(registry.Expired(109).empty());
  registry.Renew(session, 50);
  EXPECT_TRUE(registry.Expired(159).empty());
  EXPECT_EQ(registry.Expired(160), std::vector<SessionId>{SessionId(1)});
  registry.End(session);
  EXPECT_TRUE(registry.Expired(1000).empty());
  EXPECT_EQ(registry.alive(), 0u);
}

TEST(SessionRegistryTest, WithoutRecordedSessionsThereIsNoGrace) {
  SessionRegistry registry = MakeRegistry();
  registry.StartGrace(0);
  EXPECT_FALSE(registry.InGrace(0));
}

TEST(SessionRegistryTest, GraceEndsWhenTheLastMissingSessionIsBack) {
  SessionRegistry registry = MakeRegistry();
  registry.AddMissing(SessionId(1), "a", "h");
  registry.AddMissing(SessionId(2), "b", "h");
  registry.StartGrace(0);
  EXPECT_EQ(registry.GraceLeft(10), 100);
  registry.Attach(*registry.Find(SessionId(1)), std::make_shared<NullChannel>(), 10);
  EXPECT_TRUE(registry.InGrace(10));
  registry.Remove(SessionId(2));  // said goodbye
  EXPECT_FALSE(registry.InGrace(10));
}

TEST(SessionRegistryTest, MissingSessionsExpireAtTheEndOfGrace) {
  SessionRegistry registry = MakeRegistry();
  registry.AddMissing(SessionId(1), "a", "h");
  registry.StartGrace(0);
  EXPECT_TRUE(registry.Expired(109).empty());
  EXPECT_EQ(registry.Expired(110), std::vector<SessionId>{SessionId(1)});
  EXPECT_FALSE(registry.InGrace(110));
}

TEST(SessionRegistryTest, ANewStreamReplacesTheOldOne) {
  SessionRegistry registry = MakeRegistry();
  Session& session = registry.Add(SessionId(1), "a", "h", 0);
  auto first = std::make_shared<NullChannel>();
  auto second = std::make_shared<NullChannel>();
  registry.Attach(session, first, 0);
  registry.Attach(session, second, 1);
  EXPECT_EQ(registry.FindByChannel(first.get()), nullptr);
  EXPECT_EQ(registry.FindByChannel(second.get()), &session);
}

}  // namespace
}  // namespace cairn::master

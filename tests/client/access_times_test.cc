// The time of last access: when it moves, that it costs no request of its own, and in which order the master
// hears of it.
#include <chrono>
#include <thread>

#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

constexpr int64_t kDay = 86'400;

class AccessTimesTest : public ClientTest {
 protected:
  void SetUp() override {
    access_times = AccessTimes::kRelative;
    file_ = InodeId(master.AddFile(1, "a", 0644, 0, 0, 5));
    replicas.files[file_.value()] = "hello";
    master.SetTimes(file_.value(), WallSeconds() - 100, WallSeconds() - 50);
  }
  int64_t WallSeconds() { return clock.WallNanos() / kNanosPerSecond; }
  TimeSpec Now() { return {clock.WallNanos() / kNanosPerSecond, static_cast<uint32_t>(clock.WallNanos() % kNanosPerSecond)}; }
  void Read(Client& client, OpenFlags flags = {}) {
    const auto handle = client.Open(root, file_, flags);
    ASSERT_TRUE(handle.ok());
    std::byte buffer[16];
    ASSERT_TRUE(client.Read(*handle, 0, buffer).ok());
    ASSERT_TRUE(client.Close(*handle).ok());
  }
  TimeSpec Atime(Client& client) { return client.GetAttr(root, file_)->attr.atime; }
  InodeId file_;
  RecordingListener listener;
};

TEST_F(AccessTimesTest, AReadIsSeenHereAtOnceWithoutARequest) {
  auto client = Connect();
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
  const int before = master.Total();
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
  EXPECT_EQ(master.Total(), before);
  EXPECT_TRUE(master.accessed().empty());
}

TEST_F(AccessTimesTest, OnlyWhatIsDueMoves) {
  master.SetTimes(file_.value(), WallSeconds() - 10, WallSeconds() - 50);
  auto client = Connect();
  Read(*client);
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 10) << "read after the last change, and today";
  // The file changes.
  const auto handle = client->Open(root, file_, {.write = true});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(client->Write(*handle, 0, Bytes("H")).ok());
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 10);
  Read(*client);
  EXPECT_EQ(Atime(*client), Now()) << "not yet committed, but written";
  EXPECT_TRUE(client->Close(*handle).ok());
}

TEST_F(AccessTimesTest, ADayOldOneMovesAlsoWithoutAChange) {
  master.SetTimes(file_.value(), WallSeconds() - kDay - 1, WallSeconds() - 10 * kDay);
  auto client = Connect();
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
}

TEST_F(AccessTimesTest, AlwaysIsAlwaysAndNeverIsNever) {
  master.SetTimes(file_.value(), WallSeconds() - 10, WallSeconds() - 50);
  access_times = AccessTimes::kAlways;
  auto client = Connect();
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
  clock.Advance(kNanosPerMilli);
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
  access_times = AccessTimes::kNever;
  master.SetTimes(file_.value(), 5, WallSeconds());
  auto other = Connect();
  Read(*other);
  other->NoteAccess(file_);
  EXPECT_EQ(Atime(*other).seconds, 5);
}

TEST_F(AccessTimesTest, ONoatimeMovesNothing) {
  auto client = Connect();
  Read(*client, {.no_atime = true});
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 100);
  // By what a read says of the present state of its descriptor.
  const auto handle = client->Open(root, file_, {.no_atime = true});
  std::byte buffer[16];
  ASSERT_TRUE(client->Read(*handle, 0, buffer, StatusFlags{}).ok());
  EXPECT_EQ(Atime(*client), Now());
  EXPECT_TRUE(client->Close(*handle).ok());
}

TEST_F(AccessTimesTest, TheMasterHearsOfManyInOneRequest) {
  access_times_ms = 1'000;
  auto client = Connect(nullptr, 10'000, 3'600'000, 10);
  Read(*client);
  const InodeId directory(1);
  ASSERT_TRUE(client->GetAttr(root, directory).ok());
  clock.Advance(kNanosPerMilli);
  client->NoteAccess(directory);
  const TimeSpec listed = Now();
  EXPECT_TRUE(master.accessed().empty());
  clock.Advance(kNanosPerSecond);
  ASSERT_TRUE(master.WaitFor([&] { return master.accessed().size() == 2; }));
  EXPECT_EQ(master.Count(Op::kAccessed), 1);
  for (const proto::AccessTime& told : master.accessed()) {
    if (told.inode() == 1) {
      EXPECT_EQ(FromProto(told.atime()), listed);
    }
  }
  EXPECT_EQ(client->GetAttr(root, directory)->attr.atime, listed);
}

TEST_F(AccessTimesTest, ItIsToldBeforeTheLeaseGoes) {
  auto client = Connect(&listener);
  Read(*client);
  const TimeSpec read = Now();
  ASSERT_TRUE(master.Recall(file_.value(), proto::LEASE_NONE));
  ASSERT_EQ(master.AwaitRecallReply(file_.value()).inode(), file_.value());
  // Whoever changes the times now has the last word.
  ASSERT_EQ(master.accessed().size(), 1u);
  EXPECT_EQ(FromProto(master.accessed()[0].atime()), read);
}

TEST_F(AccessTimesTest, ATimeThatIsSetStaysSet) {
  auto client = Connect(&listener);
  Read(*client);
  SetAttributes change;
  change.atime = TimeSpec{5, 5};
  ASSERT_TRUE(client->SetAttr(root, file_, change).ok());
  EXPECT_EQ(Atime(*client), (TimeSpec{5, 5}));
  EXPECT_EQ(FromProto(master.AttrOf(file_.value()).atime()), (TimeSpec{5, 5}));
  client.reset();
  EXPECT_EQ(FromProto(master.AttrOf(file_.value()).atime()), (TimeSpec{5, 5})) << "no read from before comes after it";
}

TEST_F(AccessTimesTest, OneThatIsSetUnderAWriteLeaseComesAfterEarlierReadsAndBeforeLaterOnes) {
  auto client = Connect(&listener);
  const auto handle = client->Open(root, file_, {.read = true, .write = true});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(client->Write(*handle, 0, Bytes("HELLO")).ok());
  Read(*client);
  EXPECT_EQ(Atime(*client), Now());
  SetAttributes change;
  change.atime = TimeSpec{5, 5};
  ASSERT_TRUE(client->SetAttr(root, file_, change).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 0);
  EXPECT_EQ(Atime(*client), (TimeSpec{5, 5}));
  clock.Advance(2 * kNanosPerSecond);
  const auto again = client->Open(root, file_, {.read = true});
  ASSERT_TRUE(again.ok());
  std::byte buffer[16];
  ASSERT_TRUE(client->Read(*again, 0, buffer).ok());
  const TimeSpec read = Now();
  EXPECT_EQ(Atime(*client), read);
  ASSERT_TRUE(client->Fsync(*handle, false).ok());
  EXPECT_EQ(Atime(*client), read);
  ASSERT_EQ(master.commits().size(), 1u);
  EXPECT_EQ(FromProto(master.commits()[0].atime()), read) << "the master may have been told of the read before";
  client.reset();
  EXPECT_EQ(FromProto(master.AttrOf(file_.value()).atime()), read) << "the commit does not bring back what was set before";
}

TEST_F(AccessTimesTest, SyncTellsWhatIsLeft) {
  auto client = Connect();
  Read(*client);
  ASSERT_TRUE(client->SyncAll().ok());
  EXPECT_EQ(master.accessed().size(), 1u);
}

TEST_F(AccessTimesTest, AReadElsewhereIsShownWithoutAsking) {
  auto client = Connect(&listener);
  ASSERT_TRUE(client->GetAttr(root, file_).ok());
  proto::MasterMessage message;
  proto::AccessTime* file = message.mutable_notice()->mutable_accessed()->add_files();
  file->set_inode(file_.value());
  file->mutable_atime()->set_seconds(WallSeconds() - 7);
  master.Broadcast(message);
  const int before = master.Total();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (Atime(*client).seconds != WallSeconds() - 7 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 7);
  EXPECT_EQ(master.Total(), before);
}

// What this mount has written is in the kernel's pages, which it reads without asking: an open for reading counts then.
TEST_F(AccessTimesTest, AnOpenCountsWhereTheKernelMayHaveThePages) {
  auto client = Connect(&listener);
  const auto only_opened = client->Open(root, file_, {});
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 100) << "nothing of it is here";
  const auto writer = client->Open(root, file_, {.write = true});
  ASSERT_TRUE(client->Write(*writer, 0, Bytes("H")).ok());
  const auto both = client->Open(root, file_, {.write = true});
  EXPECT_EQ(Atime(*client).seconds, WallSeconds() - 100) << "a writer";
  const auto reader = client->Open(root, file_, {});
  EXPECT_EQ(Atime(*client), Now());
  EXPECT_TRUE(listener.Saw("inode " + ToString(file_))) << "the kernel's attributes are older";
  for (const auto& handle : {only_opened, writer, both, reader}) EXPECT_TRUE(client->Close(*handle).ok());
}

}  // namespace
}  // namespace cairn::client::testing

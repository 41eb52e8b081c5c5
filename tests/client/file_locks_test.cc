// File locks of one client: what it decides itself, what it tells the master, what it does when locks are
// lost.
#include <condition_variable>
#include <mutex>

#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

// The outcome of one lock request.
class Outcome {
 public:
  LockDone Done() {
    return [this](const Status& status) {
      std::lock_guard lock(mu_);
      status_ = status;
      changed_.notify_all();
    };
  }
  StatusCode Wait() {
    std::unique_lock lock(mu_);
    const bool told =
        changed_.wait_for(lock, std::chrono::seconds(20), [this] { return status_.has_value(); });
    return told ? status_->code() : StatusCode::kTimeout;
  }
  bool Told() {
    std::lock_guard lock(mu_);
    return status_.has_value();
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::optional<Status> status_;
};

class FileLocksTest : public ClientTest {
 protected:
  void SetUp() override {
    client = Connect();
    auto created = client->Create(root, kRoot, "a", {}, {.write = true});
    ASSERT_TRUE(created.ok());
    first = created->handle;
    auto opened = client->Open(root, created->entry.attr.inode, {.write = true});
    ASSERT_TRUE(opened.ok());
    second = *opened;
  }
  StatusCode Lock(const LockRequest& request) {
    Outcome outcome;
    client->RunLock(client->BeginLock(request, outcome.Done()));
    return outcome.Wait();
  }

  std::unique_ptr<ClientImpl> client;
  Handle first{}, second{};
};

TEST_F(FileLocksTest, OnlyTheFirstLockOfAFileAsksTheMaster) {
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kExclusive, .owner = 1, .start = 0, .end = 9}),
            StatusCode::kOk);
  EXPECT_EQ(Lock({.handle = second, .kind = LockKind::kShared, .owner = 2, .start = 5, .end = 5}),
            StatusCode::kWouldBlock);
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kUnlock, .owner = 1, .start = 0, .end = 9}),
            StatusCode::kOk);
  EXPECT_EQ(Lock({.handle = second, .kind = LockKind::kShared, .owner = 2, .start = 5, .end = 5}),
            StatusCode::kOk);
  EXPECT_EQ(master.Count(Op::kLock), 1);
}

TEST_F(FileLocksTest, ClosingAFileWithoutLocksAsksNobody) {
  ASSERT_TRUE(client->ReleaseRecordLocks(first, 1).ok());
  client->ReleaseHandleLocks(first, 0);
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kUnlock, .owner = 1}), StatusCode::kOk);
  EXPECT_EQ(master.Count(Op::kLock), 0);
}

TEST_F(FileLocksTest, ARequestThatMustWaitGivesTheRightToDecideBack) {
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kExclusive, .owner = 1}), StatusCode::kOk);
  EXPECT_EQ(Lock({.handle = second, .kind = LockKind::kExclusive, .owner = 2, .wait = true}),
            StatusCode::kOk);
  EXPECT_EQ(master.Count(Op::kReturnLocks), 1);
  EXPECT_EQ(master.Count(Op::kLock), 2);
}

TEST_F(FileLocksTest, AnOpenFileThatIsBeingClosedRefusesNobody) {
  EXPECT_EQ(Lock({.handle = first, .flock = true, .kind = LockKind::kExclusive, .owner = 100}),
            StatusCode::kOk);
  ASSERT_TRUE(client->ReleaseRecordLocks(first, 7).ok());  // process 7 closes its descriptor
  Outcome outcome;
  client->RunLock(client->BeginLock(
      {.handle = second, .flock = true, .kind = LockKind::kExclusive, .owner = 200}, outcome.Done()));
  EXPECT_FALSE(outcome.Told());
  client->ReleaseHandleLocks(first, 100);  // and it was the last one
  EXPECT_EQ(outcome.Wait(), StatusCode::kOk);
}

TEST_F(FileLocksTest, AnOpenFileThatSomebodyElseHasStillRefuses) {
  EXPECT_EQ(Lock({.handle = first, .flock = true, .kind = LockKind::kExclusive, .owner = 100}),
            StatusCode::kOk);
  ASSERT_TRUE(client->ReleaseRecordLocks(first, 7).ok());
  EXPECT_EQ(Lock({.handle = second, .flock = true, .kind = LockKind::kExclusive, .owner = 200}),
            StatusCode::kWouldBlock);
}

TEST_F(FileLocksTest, ARestartedMasterIsToldOfEveryLock) {
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kExclusive, .owner = 1, .start = 3, .end = 4}),
            StatusCode::kOk);
  EXPECT_EQ(Lock({.handle = second, .flock = true, .kind = LockKind::kShared, .owner = 9}), StatusCode::kOk);
  master.Restart();
  ASSERT_TRUE(master.WaitFor([&] { return master.hellos().size() >= 2; }));
  const proto::Hello hello = master.hellos().back();
  ASSERT_EQ(hello.locks_size(), 2);
  EXPECT_EQ(hello.locks(0).start(), 3u);
  EXPECT_EQ(hello.locks(1).space(), proto::LOCK_FLOCK);
  EXPECT_EQ(hello.delegated_locks_size(), 1);
}

TEST_F(FileLocksTest, DescriptorsWhoseLockWasLostAnswerEio) {
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kExclusive, .owner = 1}), StatusCode::kOk);
  ASSERT_TRUE(client->Write(second, 0, Bytes("free")).ok());
  master.ForgetSessions();
  ASSERT_TRUE(master.WaitFor([&] { return master.hellos().size() >= 3; }));
  EXPECT_EQ(client->Write(first, 0, Bytes("mine")).code(), StatusCode::kIoError);
  EXPECT_EQ(Lock({.handle = first, .kind = LockKind::kShared, .owner = 1}), StatusCode::kIoError);
  EXPECT_EQ(Lock({.handle = second, .kind = LockKind::kShared, .owner = 2}), StatusCode::kOk);
}

}  // namespace
}  // namespace cairn::client::testing

// A fixture that mounts an in-memory cluster in a temporary directory, served by this very process.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "fuse/kernel_cache.h"
#include "fuse/mount_session.h"
#include "tests/fake_client/fake_client.h"

namespace cairn::fuse {

class MountedTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  void MountWith(const std::string& option_list, InodeId root = kRootInode);
  void Unmount();

  std::string Path(const std::string& name) const { return mountpoint_ + "/" + name; }
  void WriteFile(const std::string& name, const std::string& content) const;
  std::string ReadFile(const std::string& name) const;

  const std::shared_ptr<cairn::testing::FakeCluster> cluster_ =
      std::make_shared<cairn::testing::FakeCluster>();
  KernelCache cache_;
  std::unique_ptr<cairn::testing::FakeClient> client_;
  std::unique_ptr<Ids> ids_;
  std::unique_ptr<FileSystem> fs_;
  std::unique_ptr<MountSession> mount_;
  std::string mountpoint_;
  std::atomic<int> ended_{0};
};

}  // namespace cairn::fuse

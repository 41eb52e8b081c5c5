// `cairn fsck --repair` on a real cluster: records are taken out of the master's store while it is stopped; what can be decided is put
// right while the cluster runs and mounts hold leases, what cannot stays an error.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "master/state/chunk_queries.h"
#include "master/state/keys.h"
#include "master/state/records.h"
#include "master/store/meta_txn.h"
#include "master/store/rocksdb_store.h"
#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

using master::Family;
namespace keys = master::keys;

int ReadError(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) return errno;
  char byte = 0;
  const int error = read(fd, &byte, 1) < 0 ? errno : 0;
  close(fd);
  return error;
}

InodeId Child(const master::MetaReader& txn, InodeId directory, const std::string& name) {
  return InodeId(master::LoadDentry(txn, directory, name)->inode());
}

void SeedDamage(const std::string& directory, ChunkId* gone) {
  master::RocksdbStoreOptions options;
  options.directory = directory;
  options.create_if_missing = false;
  auto store = master::OpenRocksdbStore(options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  master::MetaTxn txn((*store)->Latest());
  const InodeId dir = Child(txn, kRootInode, "dir");
  const InodeId cut = Child(txn, dir, "cut");
  const InodeId holes = Child(txn, dir, "holes");
  const InodeId lost = Child(txn, dir, "lost");
  const ChunkId chunk = *master::ChunkAtIndex(txn, cut, 0);
  txn.Delete(Family::kInodeChunks, keys::InodeChunk(cut, 0));                           // stray-chunk
  txn.Delete(Family::kServerChunks, keys::ServerChunk(ServerId(2), chunk));             // missing-server-entry
  const uint64_t number = master::LoadDentry(txn, dir, "nameless")->entry();
  txn.Delete(Family::kDentries, keys::Dentry(dir, "nameless"));                         // wrong-parent, wrong-entry-count
  txn.Delete(Family::kDirIndex, keys::DirIndex(dir, number));
  auto record = *master::LoadInode(txn, holes);
  record.set_nlink(5);                                                                  // wrong-nlink
  record.set_allocated_bytes(1 << 20);                                                  // wrong-allocation
  master::SaveInode(&txn, holes, record);
  *gone = *master::ChunkAtIndex(txn, lost, 0);
  txn.Delete(Family::kChunks, keys::Chunk(*gone));                                      // missing-chunk: cannot be decided
  ASSERT_TRUE((*store)->Commit(&txn).ok());
  ASSERT_TRUE((*store)->SyncLog().ok());
}

TEST(FsckRepair, DamageIsRepairedWhileTheClusterRuns) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  ASSERT_EQ(mkdir(cluster->Path("dir").c_str(), 0755), 0);
  const char* const names[] = {"cut", "nameless", "holes", "lost"};
  uint64_t seed = 0;
  for (const char* name : names)
    ASSERT_EQ(WriteFile(cluster->Path(std::string("dir/") + name), Pattern(++seed, 150'000), true), 0);
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  ASSERT_EQ(cluster->Cairn({"fsck", "--repair"}).exit_code, 0) << "nothing to repair";

  cluster->Down();
  ChunkId lost;
  ASSERT_NO_FATAL_FAILURE(SeedDamage(cluster->DataOf("master") + "/meta", &lost));
  cluster->Up();
  // The mount holds leases on what it found missing and wrong.
  EXPECT_EQ(ReadError(cluster->Path("dir/nameless")), ENOENT);
  EXPECT_EQ(ReadError(cluster->Path("dir/lost")), EIO) << "never zeros";
  EXPECT_TRUE(ReadFile(cluster->Path("dir/holes")) == Pattern(3, 150'000));

  const RunResult preview = cluster->Cairn({"fsck", "--repair"});
  EXPECT_EQ(preview.exit_code, 6) << preview.Both();
  EXPECT_NE(preview.out.find("would be repaired"), std::string::npos) << preview.out;
  EXPECT_NE(preview.out.find("not repairable"), std::string::npos) << preview.out;
  EXPECT_NE(preview.out.find("Nothing was changed"), std::string::npos) << preview.out;
  EXPECT_EQ(ReadError(cluster->Path("dir/nameless")), ENOENT) << "a preview changes nothing";
  EXPECT_EQ(cluster->Cairn({"fsck", "/dir", "--repair"}).exit_code, 1) << "only a check of everything repairs";
  EXPECT_EQ(cluster->Cairn({"fsck", "--yes"}).exit_code, 2);

  const RunResult repaired = cluster->Cairn({"fsck", "--repair", "--yes"});
  Figure(repaired.out);
  EXPECT_EQ(repaired.exit_code, 6) << repaired.Both() << "what cannot be decided is left";
  EXPECT_TRUE(ReadFile(cluster->Path("dir/cut")) == Pattern(1, 150'000));
  EXPECT_TRUE(ReadFile(cluster->Path("dir/nameless")) == Pattern(2, 150'000)) << "the mount's lease on the directory was recalled";
  EXPECT_TRUE(ReadFile(cluster->Path("dir/holes")) == Pattern(3, 150'000));
  struct stat attributes {};
  ASSERT_EQ(stat(cluster->Path("dir/holes").c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 1u);
  EXPECT_EQ(attributes.st_blocks, 37 * 8);
  EXPECT_EQ(ReadError(cluster->Path("dir/lost")), EIO);
  const RunResult events = cluster->Cairn({"events", "--kind", "metadata.repaired"});
  EXPECT_NE(events.out.find("wrong-nlink"), std::string::npos) << events.Both();

  // The copies of the chunk whose record is lost are there for a backup of the metadata.
  for (const std::string& server : cluster->ServerAddresses()) {
    const auto replica = QueryReplica(server, lost);
    EXPECT_TRUE(replica.ok()) << server << ": " << replica.status().ToString();
  }
  // The way out that the message names; what was repaired survives a restart of the master.
  EXPECT_EQ(Remove(cluster->Path("dir/lost")), 0);
  EXPECT_EQ(cluster->Cairn({"fsck", "--repair", "--yes"}).exit_code, 0);
  cluster->Kill("master");
  cluster->Up();
  EXPECT_TRUE(WaitUntil([&] { return cluster->Cairn({"fsck"}).exit_code == 0; }, 30'000, 500)) << cluster->Cairn({"fsck"}).Both();
  EXPECT_TRUE(ReadFile(cluster->Path("dir/cut")) == Pattern(1, 150'000));
  EXPECT_TRUE(cluster->WaitHealthy(60'000)) << cluster->Status().dump(1);
}

}  // namespace
}  // namespace cairn::cluster_test

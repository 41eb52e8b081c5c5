// Whose directory it is, and who may use it.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

namespace fs = std::filesystem;

class StoreDirectoryTest : public StoreFixture {
 protected:
  void ExpectRefusal(StatusCode code, const std::string& mentions) {
    const auto opened = TryOpen();
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.code(), code) << opened.status().ToString();
    EXPECT_NE(opened.status().message().find(mentions), std::string::npos) << opened.status().ToString();
  }
};

TEST_F(StoreDirectoryTest, IdentityIsMadeOnceAndStays) {
  OpenStore();
  const Uuid disk = store_->identity().disk;
  EXPECT_TRUE(disk);
  EXPECT_FALSE(store_->identity().cluster);
  ASSERT_TRUE(store_->SetIdentity(Uuid{1, 2}, Uuid{3, 4}, ServerId{5}).ok());
  EXPECT_TRUE(store_->SetIdentity(Uuid{1, 2}, Uuid{3, 4}, ServerId{5}).ok());
  EXPECT_EQ(store_->SetIdentity(Uuid{9, 9}, Uuid{3, 4}, ServerId{5}).code(), StatusCode::kWrongCluster);
  EXPECT_EQ(store_->SetIdentity(Uuid{1, 2}, Uuid{3, 4}, ServerId{6}).code(), StatusCode::kWrongCluster);
  Reopen();
  EXPECT_EQ(store_->identity().disk, disk);
  EXPECT_EQ(store_->identity().cluster, (Uuid{1, 2}));
  EXPECT_EQ(store_->identity().server_uuid, (Uuid{3, 4}));
  EXPECT_EQ(store_->identity().server, ServerId{5});
  store_.reset();
  base_options_.cluster = Uuid{7, 7};
  ExpectRefusal(StatusCode::kWrongCluster, directory_);
  base_options_.cluster = Uuid{1, 2};
  base_options_.server = ServerId{6};
  ExpectRefusal(StatusCode::kWrongCluster, "cs5");
  base_options_.server = ServerId{5};
  OpenStore();
}

TEST_F(StoreDirectoryTest, TwoProcessesCannotShareADirectory) {
  OpenStore();
  ExpectRefusal(StatusCode::kBusy, directory_);
  store_.reset();
  OpenStore();
}

TEST_F(StoreDirectoryTest, ForeignFilesAreRefused) {
  fs::create_directories(directory_);
  std::ofstream(directory_ + "/holiday.jpg") << "x";
  ExpectRefusal(StatusCode::kFailedPrecondition, "holiday.jpg");
  fs::remove(directory_ + "/holiday.jpg");
  OpenStore();
}

TEST_F(StoreDirectoryTest, AnEmptyDirectoryIsAMissingMountUnlessANewDiskIsWanted) {
  base_options_.create_if_missing = false;
  ExpectRefusal(StatusCode::kNotFound, "mounted");
  fs::create_directories(directory_ + "/lost+found");
  ExpectRefusal(StatusCode::kFailedPrecondition, "mounted");
  base_options_.create_if_missing = true;
  OpenStore();
  store_.reset();
  base_options_.create_if_missing = false;
  OpenStore();
}

TEST_F(StoreDirectoryTest, ADamagedOrMissingIdentityIsRefused) {
  OpenStore();
  ASSERT_TRUE(Write(ChunkId{1}, 0, Pattern(10, 1)).ok());
  store_.reset();
  const std::string identity = directory_ + "/IDENTITY";
  FlipByte(identity, 30);
  ExpectRefusal(StatusCode::kCorrupt, identity);
  FlipByte(identity, 30);
  fs::rename(identity, root_ + "/IDENTITY");
  ExpectRefusal(StatusCode::kCorrupt, "IDENTITY");
  fs::rename(root_ + "/IDENTITY", identity);
  OpenStore();
  EXPECT_TRUE(Known(ChunkId{1}));
}

TEST_F(StoreDirectoryTest, AnotherFormatVersionIsRefused) {
  fs::create_directories(directory_);
  std::string text = "cairn-disk 1\ndisk 00\n";
  char crc[16];
  std::snprintf(crc, sizeof(crc), "%08x", Crc32c(std::as_bytes(std::span(text.data(), text.size()))));
  std::ofstream(directory_ + "/IDENTITY") << text << "crc " << crc << "\n";
  ExpectRefusal(StatusCode::kVersionMismatch, "format 1");
}

TEST_F(StoreDirectoryTest, ASegmentOfAnotherDiskIsRefused) {
  OpenStore();
  ASSERT_TRUE(Write(ChunkId{1}, 0, Pattern(10, 1)).ok());
  store_.reset();
  const std::string first = directory_;
  directory_ = root_ + "/second";
  OpenStore();
  store_.reset();
  fs::copy_file(Segments(first).front(), directory_ + "/segments/0000000009.seg");
  // Its records say that they belong elsewhere; nothing of them is taken.
  auto opened = TryOpen();
  if (opened.ok()) {
    store_ = std::move(*opened);
    EXPECT_FALSE(Known(ChunkId{1}));
  }
  store_.reset();
  fs::remove(directory_ + "/segments/0000000009.seg");
  fs::copy_file(Segments(first).front(), Segments(directory_).front(), fs::copy_options::overwrite_existing);
  fs::remove_all(directory_ + "/index");
  ExpectRefusal(StatusCode::kWrongCluster, "belongs to disk");
}

TEST_F(StoreDirectoryTest, AnInterruptedCreationIsFinished) {
  fs::create_directories(directory_ + "/segments");
  std::ofstream(directory_ + "/LOCK") << "1";
  std::ofstream(directory_ + "/IDENTITY.tmp") << "half";
  OpenStore();
  EXPECT_TRUE(Write(ChunkId{1}, 0, Pattern(10, 1)).ok());
}

TEST_F(StoreDirectoryTest, AMissingStateIsTreatedAsALossOfPower) {
  OpenStore();
  ASSERT_TRUE(Write(ChunkId{1}, 0, Pattern(10, 1)).ok());
  store_.reset();
  fs::remove(directory_ + "/STATE");
  OpenStore();
  EXPECT_TRUE(store_->amnesic());
  EXPECT_EQ(*ReadAll(ChunkId{1}), Pattern(10, 1));
}

}  // namespace
}  // namespace cairn::chunkserver

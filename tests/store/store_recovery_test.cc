// Stops of every kind: killed processes, lost power, torn and damaged files.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

namespace fs = std::filesystem;
using replication::ReplicaInfo;

class StoreRecoveryTest : public StoreFixture {
 protected:
  const ChunkId chunk_{42};
  const ChunkId other_{43};

  fs::path LastSegment() { return Segments(directory_).back(); }

  // Continues with what a crash would have left, after `damage` was done to it.
  void CrashWith(const std::function<void()>& damage) {
    ContinueWith(CopyDirectory());
    damage();
    OpenStore();
  }
};

TEST_F(StoreRecoveryTest, AKilledProcessLosesNothingThatWasApplied) {
  int applied[2];
  ASSERT_EQ(pipe(applied), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // No clean close: it is killed while it writes.
    close(applied[0]);
    auto store = TryOpen();
    if (!store.ok()) _exit(1);
    store_ = std::move(*store);
    for (uint64_t i = 0;; ++i) {
      if (!Write(ChunkId{i % 50 + 1}, i * 1000, Pattern(3000, i)).ok()) _exit(2);
      if (write(applied[1], &i, sizeof(i)) != sizeof(i)) _exit(3);
    }
  }
  close(applied[1]);
  uint64_t last = 0;
  while (last < 400) ASSERT_EQ(read(applied[0], &last, sizeof(last)), static_cast<ssize_t>(sizeof(last)));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  while (read(applied[0], &last, sizeof(last)) == static_cast<ssize_t>(sizeof(last))) {
  }
  close(applied[0]);

  OpenStore();
  EXPECT_FALSE(store_->amnesic());
  for (uint64_t id = 1; id <= 50; ++id) {
    uint64_t newest = last - (last % 50 + 51 - id) % 50;  // the last acknowledged write of this chunk
    const auto data = ReadAll(ChunkId{id});
    ASSERT_TRUE(data.ok()) << data.status().ToString();
    ASSERT_GE(data->size(), newest * 1000 + 3000);
    const Bytes expected = Pattern(3000, newest);
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.end(), data->begin() + static_cast<ptrdiff_t>(newest * 1000)));
    EXPECT_GE(Info(ChunkId{id}).accepted.seq, newest / 50 + 1);
  }
}

TEST_F(StoreRecoveryTest, AHalfWrittenRecordIsCutOff) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 1)).ok());
  ASSERT_TRUE(Write(other_, 0, Pattern(100'000, 2)).ok());
  CrashWith([&] { fs::resize_file(LastSegment(), fs::file_size(LastSegment()) - 50'000); });
  EXPECT_FALSE(store_->amnesic());
  EXPECT_FALSE(Known(other_));
  EXPECT_EQ(*ReadAll(chunk_), Pattern(5000, 1));
  // What is written now stands where the torn record stood.
  ASSERT_TRUE(Write(other_, 0, Pattern(10, 3)).ok());
  CrashWith([] {});
  EXPECT_EQ(*ReadAll(other_), Pattern(10, 3));
}

// A process that is killed inside a write leaves the first pages of it. Where the log was zeroed ahead the file is long enough for
// the whole record all the same.
TEST_F(StoreRecoveryTest, AHalfWrittenRecordInZerosWrittenAheadIsCutOff) {
  OpenStore();
  Bytes expected(20'000);
  for (uint64_t i = 0; i < 20; ++i) {
    const Bytes data = Pattern(20'000, i);
    ASSERT_TRUE(Write(chunk_, 0, data).ok());
    ASSERT_TRUE(store_->Flush().ok());
    expected = data;
  }
  const std::string synced = env_.SyncedContent(LastSegment());
  ASSERT_TRUE(Write(chunk_, 0, Pattern(20'000, 77)).ok());
  const uint64_t first_page = Find(LastSegment(), Pattern(20'000, 77)) / kBlockBytes;
  const uint64_t size = fs::file_size(LastSegment());
  ASSERT_GT(size, (first_page + 10) * kBlockBytes) << "nothing was zeroed ahead";
  CrashWith([&] { LosePages(LastSegment(), synced, [&](uint64_t page) { return page >= first_page + 2; }); });
  EXPECT_FALSE(store_->amnesic()) << "nobody was told that it was applied";
  EXPECT_FALSE(Info(chunk_).corrupt);
  EXPECT_EQ(Info(chunk_).accepted.seq, 20u);
  const auto data = ReadAll(chunk_);
  ASSERT_TRUE(data.ok()) << data.status().ToString();
  EXPECT_TRUE(*data == expected);
  // Damage of the last record is not taken for half a record.
  CrashWith([&] { FlipByte(LastSegment(), Find(LastSegment(), expected) + 5000); });
  EXPECT_EQ(Info(chunk_).accepted.seq, 20u);
  EXPECT_TRUE(Info(chunk_).corrupt);
}

TEST_F(StoreRecoveryTest, LossOfPowerKeepsWhatWasFlushedAndTellsOfAmnesia) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(20'000, 1)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  const uint64_t synced = env_.SyncedSize(LastSegment());
  ASSERT_TRUE(Write(other_, 0, Pattern(20'000, 2)).ok());
  ASSERT_TRUE(Write(chunk_, 0, Pattern(20'000, 3)).ok());
  CrashWith([&] {
    // The head of the record reached the disk, its data did not.
    const uint64_t size = fs::file_size(LastSegment());
    fs::resize_file(LastSegment(), synced + 1000);
    fs::resize_file(LastSegment(), size);
    env_.boot.low++;
  });
  EXPECT_TRUE(store_->amnesic());
  EXPECT_FALSE(Known(other_));
  EXPECT_EQ(*ReadAll(chunk_), Pattern(20'000, 1));
  EXPECT_TRUE(Info(chunk_).amnesic);
  // It stays amnesic over restarts until the master has set a floor.
  Reopen();
  EXPECT_TRUE(store_->amnesic());
  // Until then it confirms nothing: a promise that it forgot could be broken.
  EXPECT_EQ(store_->Fence(chunk_, Epoch{90}, nullptr).code(), StatusCode::kUnavailable);
  ASSERT_TRUE(store_->SetEpochFloor(Epoch{100}).ok());
  EXPECT_FALSE(store_->amnesic());
  EXPECT_EQ(Info(chunk_).promised, Epoch{100});
  Reopen();
  EXPECT_FALSE(store_->amnesic());
  // The disk may grant again, but what this replica forgot it still does not know: its answer is no full vote.
  EXPECT_TRUE(Info(chunk_).amnesic);
}

TEST_F(StoreRecoveryTest, ALargeRecordIsNotBelievedWhenTheSmallOneBeforeItWasLost) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 1)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  const std::string synced = env_.SyncedContent(LastSegment());
  ASSERT_TRUE(Write(other_, 0, Pattern(100, 2)).ok());
  // Written past the page cache: on disk at once, while the page with the record before it is not.
  ASSERT_TRUE(Write(other_, 8192, Pattern(100'000, 3)).ok());
  const uint64_t large_page = Find(LastSegment(), Pattern(100'000, 3)) / kBlockBytes - 1;
  CrashWith([&] {
    LosePages(LastSegment(), synced, [&](uint64_t page) { return page < large_page; });
    env_.boot.low++;
  });
  EXPECT_FALSE(Known(other_));
  EXPECT_EQ(*ReadAll(chunk_), Pattern(5000, 1));
}

TEST_F(StoreRecoveryTest, LargeAndSmallRecordsAreFoundAgainOneAfterTheOther) {
  OpenStore();
  std::map<uint64_t, Bytes> written;
  for (uint64_t id = 1; id <= 12; ++id) {
    const size_t size = id % 3 == 0 ? 65'536 + id * 1000 : id * 700;
    written[id] = Pattern(size, id);
    ASSERT_TRUE(Write(ChunkId{id}, 0, written[id]).ok());
  }
  CrashWith([&] { fs::remove_all(directory_ + "/index"); });
  EXPECT_FALSE(store_->amnesic());
  for (const auto& [id, data] : written) EXPECT_TRUE(*ReadAll(ChunkId{id}) == data) << id;
}

// A log that is synced often is zeroed ahead: the zeros are neither records nor damage.
TEST_F(StoreRecoveryTest, ZerosAheadOfTheEndAreNoRecords) {
  OpenStore();
  const uint64_t before = AllocatedBytes(directory_);
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(Write(chunk_, i * 4096, Pattern(4096, i)).ok());
    ASSERT_TRUE(store_->Flush().ok());
  }
  ASSERT_GT(AllocatedBytes(directory_), before + 500'000) << "nothing was zeroed ahead";
  CrashWith([] {});
  EXPECT_FALSE(store_->amnesic());
  EXPECT_EQ(Info(chunk_).accepted.seq, 20u);
  for (uint64_t i = 20; i < 30; ++i) {
    ASSERT_TRUE(Write(chunk_, i * 4096, Pattern(4096, i)).ok());
    ASSERT_TRUE(store_->Flush().ok());
  }
  CrashWith([&] { env_.boot.low++; });
  EXPECT_EQ(Info(chunk_).accepted.seq, 30u);
  const auto data = ReadAll(chunk_);
  ASSERT_TRUE(data.ok()) << data.status().ToString();
  for (uint64_t i = 0; i < 30; ++i) {
    const Bytes expected = Pattern(4096, i);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), data->begin() + static_cast<ptrdiff_t>(i * 4096)));
  }
}

// Zeros where records were are damage, also at the end of a segment that others follow.
TEST_F(StoreRecoveryTest, RecordsThatBecameZerosAreMissed) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 10; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(50'000, id)).ok());
  ASSERT_GE(Segments(directory_).size(), 2u);
  CrashWith([&] {
    const fs::path first = Segments(directory_).front();
    const uint64_t size = fs::file_size(first);
    constexpr uint64_t kHeadBytes = 144 + 20 + 13 * 4;  // one extent of 13 blocks
    fs::resize_file(first, Find(first, Pattern(50'000, 4)) - kHeadBytes);
    fs::resize_file(first, size);
  });
  EXPECT_TRUE(store_->amnesic());
  EXPECT_TRUE(Known(ChunkId{3}));
  EXPECT_FALSE(Known(ChunkId{4}));
  EXPECT_TRUE(Known(ChunkId{10}));
}

TEST_F(StoreRecoveryTest, ABootAfterACleanCloseIsTrusted) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(20'000, 1)).ok());
  store_.reset();
  env_.boot.low++;
  OpenStore();
  EXPECT_FALSE(store_->amnesic());
  EXPECT_EQ(*ReadAll(chunk_), Pattern(20'000, 1));
}

TEST_F(StoreRecoveryTest, DamageBelowTheSyncPointIsNotTakenForATornTail) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(8192, 1)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  ASSERT_TRUE(Write(other_, 0, Pattern(8192, 2)).ok());
  CrashWith([&] {
    FlipByte(LastSegment(), Find(LastSegment(), Pattern(8192, 1)) + 5000);
    env_.boot.low++;
  });
  // The record of the other chunk says that the first one had been synced.
  EXPECT_EQ(*ReadAll(other_), Pattern(8192, 2));
  EXPECT_TRUE(Info(chunk_).corrupt);
  EXPECT_EQ(ReadAll(chunk_).code(), StatusCode::kCorrupt);
  EXPECT_FALSE(Info(other_).corrupt);
}

TEST_F(StoreRecoveryTest, ADamagedHeadDoesNotHideWhatComesAfterIt) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(8192, 1)).ok());
  ASSERT_TRUE(Write(other_, 0, Pattern(8192, 2)).ok());
  CrashWith([&] { FlipByte(LastSegment(), Find(LastSegment(), Pattern(8192, 1)) - 10); });
  EXPECT_EQ(*ReadAll(other_), Pattern(8192, 2));
  EXPECT_FALSE(Known(chunk_));
  EXPECT_TRUE(store_->amnesic()) << "a lost record may have been an acknowledged change";
}

TEST_F(StoreRecoveryTest, AFlippedByteIsFoundByTheStoreAndByTheReader) {
  OpenStore();
  const Bytes data = Pattern(50'000, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  FlipByte(LastSegment(), Find(LastSegment(), data) + 20'000);
  EXPECT_EQ(ReadAll(chunk_, true).code(), StatusCode::kCorrupt);
  EXPECT_EQ(ReadAll(chunk_, false).code(), StatusCode::kCorrupt);
  // The blocks beside it are served.
  wire::ReadRequest request{chunk_, Info(chunk_).accepted, true, 0, 16'384};
  EXPECT_TRUE(store_->Read(request, true).ok());
  uint64_t length = 0;
  const auto digests = store_->Digests({chunk_, Stamp{}, 0, 65'536}, &length);
  ASSERT_TRUE(digests.ok());
  EXPECT_EQ(digests->front(), wire::Digest{});

  EXPECT_FALSE(Info(chunk_).corrupt);
  ASSERT_TRUE(store_->MarkCorrupt(chunk_, 20'000).ok());
  EXPECT_TRUE(Info(chunk_).corrupt);
  Reopen();
  EXPECT_TRUE(Info(chunk_).corrupt);
}

TEST_F(StoreRecoveryTest, APartialWriteNeverBlessesADamagedBlock) {
  OpenStore();
  const Bytes data = Pattern(12'288, 1);
  ASSERT_TRUE(Write(chunk_, 0, data).ok());
  FlipByte(LastSegment(), Find(LastSegment(), data) + 5000);
  const Stamp before = Info(chunk_).accepted;
  EXPECT_EQ(Write(chunk_, 4100, Pattern(10, 2)).code(), StatusCode::kCorrupt);
  EXPECT_EQ(Info(chunk_).accepted, before);
  EXPECT_TRUE(Info(chunk_).corrupt);
  EXPECT_EQ(Truncate(chunk_, 6000).code(), StatusCode::kCorrupt);
  EXPECT_EQ(Zero(chunk_, 4100, 10).code(), StatusCode::kCorrupt);
  // Replacing the whole block is no problem.
  EXPECT_TRUE(Write(chunk_, 4096, Pattern(4096, 3)).ok());
  EXPECT_TRUE(ReadAll(chunk_).ok());
}

TEST_F(StoreRecoveryTest, ATruncatedSegmentIsReportedByReads) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 20; ++id) ASSERT_TRUE(Write(ChunkId{id}, 0, Pattern(50'000, id)).ok());
  store_.reset();
  const fs::path first = Segments(directory_).front();
  fs::resize_file(first, 20'000);
  fs::remove(Segments(directory_)[1]);
  OpenStore();
  int good = 0;
  int bad = 0;
  for (uint64_t id = 1; id <= 20; ++id) {
    const auto data = ReadAll(ChunkId{id}, false);
    if (data.ok()) {
      EXPECT_EQ(*data, Pattern(50'000, id));
      ++good;
    } else {
      EXPECT_EQ(data.code(), StatusCode::kCorrupt);
      EXPECT_NE(data.status().message().find(".seg"), std::string::npos);
      ++bad;
    }
  }
  EXPECT_GT(good, 5);
  EXPECT_GE(bad, 5);
  ASSERT_TRUE(Write(ChunkId{99}, 0, Pattern(100, 99)).ok());
}

TEST_F(StoreRecoveryTest, ATruncatedLastSegmentDoesNotTakeNewRecordsInItsPlace) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(50'000, 1)).ok());
  store_.reset();
  fs::resize_file(LastSegment(), 10'000);
  OpenStore();
  EXPECT_EQ(ReadAll(chunk_).code(), StatusCode::kCorrupt);
  ASSERT_TRUE(Write(other_, 0, Pattern(50'000, 2)).ok());
  EXPECT_EQ(Segments(directory_).size(), 2u);
  Reopen();
  EXPECT_EQ(*ReadAll(other_), Pattern(50'000, 2));
}

TEST_F(StoreRecoveryTest, ATornEndAfterACleanCloseIsAmnesia) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(50'000, 1)).ok());
  ASSERT_TRUE(Write(other_, 0, Pattern(50'000, 2)).ok());
  store_.reset();
  // With the index gone too, nothing else remembers the record that was cut in two.
  fs::resize_file(LastSegment(), fs::file_size(LastSegment()) - 10'000);
  fs::remove_all(directory_ + "/index");
  OpenStore();
  EXPECT_TRUE(store_->amnesic());
  EXPECT_FALSE(Known(other_));
  EXPECT_EQ(*ReadAll(chunk_), Pattern(50'000, 1));
}

TEST_F(StoreRecoveryTest, ADestroyedIndexIsBuiltAgain) {
  base_options_.segment_bytes = 256 * 1024;
  OpenStore();
  for (uint64_t id = 1; id <= 30; ++id) ASSERT_TRUE(Write(ChunkId{id}, id * 10, Pattern(30'000, id)).ok());
  for (uint64_t id = 1; id <= 30; id += 3) ASSERT_TRUE(Erase(ChunkId{id}).ok());
  for (uint64_t id = 2; id <= 30; id += 3) ASSERT_TRUE(Zero(ChunkId{id}, 5000, 10'000).ok());
  ASSERT_TRUE(store_->Reclaim().ok());
  std::map<uint64_t, Bytes> expected;
  for (uint64_t id = 1; id <= 30; ++id) {
    if (id % 3 != 1) expected[id] = *ReadAll(ChunkId{id});
  }
  const StoreUsage usage = store_->Usage();
  for (const char* damage : {"remove", "garbage", "CURRENT", "truncated tables"}) {
    store_.reset();
    const fs::path index = directory_ + "/index";
    for (const auto& entry : fs::directory_iterator(index)) {
      const std::string name = entry.path().filename().string();
      if (std::string_view(damage) == "garbage" && name.starts_with("MANIFEST")) {
        std::ofstream(entry.path()) << std::string(5000, 'x');
      }
      if (std::string_view(damage) == "truncated tables" && name.ends_with(".sst"))
        fs::resize_file(entry.path(), 10);
    }
    if (std::string_view(damage) == "remove") fs::remove_all(index);
    if (std::string_view(damage) == "CURRENT") fs::remove(index / "CURRENT");
    OpenStore();
    ASSERT_NE(store_, nullptr) << damage;
    EXPECT_FALSE(store_->amnesic());
    EXPECT_EQ(store_->Usage().chunks, expected.size()) << damage;
    EXPECT_EQ(store_->Usage().used_bytes, usage.used_bytes) << damage;
    for (const auto& [id, data] : expected) EXPECT_TRUE(*ReadAll(ChunkId{id}) == data) << damage << " " << id;
  }
}

TEST_F(StoreRecoveryTest, AnErrorOfFdatasyncIsNeverForgotten) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 1)).ok());
  env_.sync_error = EIO;
  const Status first = store_->Flush();
  EXPECT_EQ(first.code(), StatusCode::kIoError);
  EXPECT_TRUE(store_->failed());
  EXPECT_TRUE(store_->amnesic());
  // The next fdatasync would succeed; it must not be believed.
  EXPECT_EQ(store_->Flush().code(), StatusCode::kIoError);
  EXPECT_EQ(Write(chunk_, 0, Pattern(10, 2)).code(), StatusCode::kIoError);
  EXPECT_EQ(Erase(chunk_).code(), StatusCode::kIoError);
  EXPECT_EQ(Info(chunk_).durable, Stamp{});
  EXPECT_NE(store_->failure().message().find(".seg"), std::string::npos);
  EXPECT_TRUE(ReadAll(chunk_).ok());
  Reopen();
  EXPECT_FALSE(store_->failed());
  EXPECT_TRUE(store_->amnesic()) << "the page cache may have dropped what could not be written";
}

TEST_F(StoreRecoveryTest, AnErrorOfWriteFailsTheDisk) {
  OpenStore();
  ASSERT_TRUE(Write(chunk_, 0, Pattern(5000, 1)).ok());
  env_.write_error = EIO;
  EXPECT_EQ(Write(chunk_, 0, Pattern(5000, 2)).code(), StatusCode::kIoError);
  env_.write_error = 0;
  EXPECT_TRUE(store_->failed());
  EXPECT_EQ(Write(other_, 0, Pattern(10, 3)).code(), StatusCode::kIoError);
  EXPECT_EQ(*ReadAll(chunk_), Pattern(5000, 1));
}

TEST_F(StoreRecoveryTest, ConcurrentWritersReadersAndFlushesAgree) {
  OpenStore();
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  std::atomic<int> errors{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const ChunkId mine{static_cast<uint64_t>(t) + 1};
      for (uint64_t i = 1; i <= 60; ++i) {
        if (!Write(mine, 0, Pattern(9000, i * 10 + static_cast<uint64_t>(t))).ok()) ++errors;
        ReplicaInfo before;
        if (!store_->Query(mine, &before).ok()) ++errors;
        if (i % 5 == 0) {
          ReplicaInfo after;
          if (!store_->Flush().ok() || !store_->Query(mine, &after).ok()) ++errors;
          if (after.durable < before.accepted) ++errors;
        }
        const auto data = ReadAll(mine);
        if (!data.ok() || *data != Pattern(9000, i * 10 + static_cast<uint64_t>(t))) ++errors;
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 10; ++i) {
      if (!store_->Reclaim().ok()) ++errors;
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(errors, 0);
}

TEST_F(StoreRecoveryTest, DurableAdvancesWhileOthersKeepWriting) {
  OpenStore();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> applied{0};
  std::thread writer([&] {
    while (!stop) {
      if (!Write(chunk_, 0, Pattern(100, 1)).ok()) return;
      ++applied;
    }
  });
  while (applied == 0) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {
    const Stamp before = Info(chunk_).accepted;
    ASSERT_TRUE(store_->Flush().ok());
    EXPECT_GE(Info(chunk_).durable, before);
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace cairn::chunkserver

// Segments of a store that were changed on disk: the store opens or says why not, and whatever it then shows
// as good is what was written.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/mutator.h"
#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

class StoreFuzz : public StoreFixture {};

TEST_F(StoreFuzz, ChangedSegmentsShowNothingThatWasNotWritten) {
  constexpr ChunkId kOne{1};
  constexpr ChunkId kTwo{2};
  const Bytes old = Pattern(60'000, 1);
  Bytes now = old;
  const Bytes patch = Pattern(9'000, 2);
  std::copy(patch.begin(), patch.end(), now.begin() + 10'000);
  const Bytes other = Pattern(20'000, 3);
  OpenStore();
  ASSERT_TRUE(Write(kOne, 0, old).ok());
  ASSERT_TRUE(Write(kTwo, 0, other).ok());
  ASSERT_TRUE(Write(kOne, 10'000, patch).ok());
  const Stamp last = Info(kOne).accepted;
  store_.reset();
  const std::string sound = directory_;
  fuzz::Mutator mutator(fuzz::Seed());
  uint64_t opened = 0;
  uint64_t whole = 0;
  const uint64_t rounds = fuzz::Rounds(60);
  for (uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const std::string copy = root_ + "/fuzzed";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(sound, copy, std::filesystem::copy_options::recursive);
    directory_ = copy;
    if (mutator.Below(2) == 0)
      env_.boot.low += 1;  // as after a loss of power: nothing behind the sync point is trusted
    const auto segments = Segments(copy);
    ASSERT_FALSE(segments.empty());
    const auto& file = segments[mutator.Below(segments.size())];
    std::ifstream in(file, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    in.close();
    const auto bytes = std::as_bytes(std::span(text));
    const fuzz::Bytes changed =
        mutator.Mutate(fuzz::Bytes(bytes.begin(), bytes.end()), std::span(bytes).first(1000));
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(changed.data()), static_cast<std::streamsize>(changed.size()));
    out.close();
    auto store = TryOpen();
    if (!store.ok()) {
      EXPECT_FALSE(store.status().message().empty());
      continue;
    }
    ++opened;
    store_ = std::move(*store);
    if (Known(kOne)) {
      const Stamp stamp = Info(kOne).accepted;
      const auto read = ReadAll(kOne, false);
      if (read.ok() && stamp == last) {
        EXPECT_TRUE(*read == now) << "it claims " << ToString(stamp);
        ++whole;
      } else if (read.ok() && read->size() == old.size()) {
        EXPECT_TRUE(*read == old) << "it claims " << ToString(stamp);
      }
    }
    if (Known(kTwo)) {
      const auto read = ReadAll(kTwo, false);
      if (read.ok() && read->size() == other.size()) {
        EXPECT_TRUE(*read == other);
      }
    }
    // Whatever it found, it goes on.
    const Bytes fresh = Pattern(5000, round);
    if (Write(ChunkId{77}, 0, fresh).ok()) {
      const auto read = ReadAll(ChunkId{77});
      EXPECT_TRUE(read.ok() && *read == fresh);
    }
    store_.reset();
  }
  EXPECT_GT(opened, 0u);
  EXPECT_GT(whole, 0u);
}

}  // namespace
}  // namespace cairn::chunkserver

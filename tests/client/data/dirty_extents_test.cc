#include "client/data/dirty_extents.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>

namespace cairn::client {
namespace {

std::vector<std::byte> Pattern(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> data(bytes);
  for (std::byte& b : data) b = static_cast<std::byte>(random());
  return data;
}

// Every byte: nothing (clean) or the value written last.
using Model = std::vector<std::optional<std::byte>>;

void WriteBoth(DirtyExtents& extents, Model& model, uint64_t offset, const std::vector<std::byte>& data) {
  uint64_t fresh = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    if (!model[offset + i]) ++fresh;
    model[offset + i] = data[i];
  }
  EXPECT_EQ(extents.Write(offset, data), fresh);
}

void ExpectEqual(const DirtyExtents& extents, const Model& model) {
  std::vector<std::byte> got(model.size(), std::byte{0xAA});
  extents.Overlay(0, got);
  uint64_t dirty = 0;
  for (size_t i = 0; i < model.size(); ++i) {
    ASSERT_EQ(got[i], model[i].value_or(std::byte{0xAA})) << "at " << i;
    if (model[i]) ++dirty;
  }
  EXPECT_EQ(extents.bytes(), dirty);
}

TEST(DirtyExtents, SequentialSmallWritesBecomeOneExtentPerSlot) {
  net::BufferPool pool(64 << 20);
  DirtyExtents extents(&pool);
  const auto data = Pattern(2 * kSlotBytes + 5000, 1);
  for (size_t at = 0; at < data.size(); at += 1000) {
    const size_t n = std::min<size_t>(1000, data.size() - at);
    extents.Write(at, std::span(data).subspan(at, n));
  }
  EXPECT_EQ(extents.count(), 3u);
  auto full = extents.Take(false);
  ASSERT_EQ(full.size(), 2u);
  EXPECT_EQ(full[0].offset, 0u);
  EXPECT_EQ(full[0].data.size(), kSlotBytes);
  EXPECT_EQ(full[1].offset, kSlotBytes);
  EXPECT_TRUE(std::equal(full[1].data.bytes.begin(), full[1].data.bytes.end(), data.begin() + kSlotBytes));
  auto rest = extents.Take(true);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].data.size(), 5000u);
  EXPECT_EQ(extents.bytes(), 0u);
}

TEST(DirtyExtents, ScatteredSmallWritesStaySmall) {
  net::BufferPool pool(64 << 20);
  DirtyExtents extents(&pool);
  const auto data = Pattern(4096, 2);
  for (uint64_t block : {90, 7, 300, 12}) extents.Write(block * 8192, data);
  EXPECT_TRUE(extents.Take(false).empty());
  auto ready = extents.Take(true);
  ASSERT_EQ(ready.size(), 4u);
  for (const auto& extent : ready) EXPECT_EQ(extent.data.size(), 4096u);
}

TEST(DirtyExtents, NeighboursWrittenBackwardsAreSentAsOne) {
  net::BufferPool pool(64 << 20);
  DirtyExtents extents(&pool);
  const auto data = Pattern(8 * 4096, 3);
  for (int block = 7; block >= 0; --block) {
    extents.Write(static_cast<uint64_t>(block) * 4096,
                  std::span(data).subspan(static_cast<size_t>(block) * 4096, 4096));
  }
  auto ready = extents.Take(true);
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), ready[0].data.bytes.begin(), ready[0].data.bytes.end()));
}

TEST(DirtyExtents, RandomWritesTruncationsAndTakesAgreeWithAModel) {
  constexpr size_t kBytes = 3 * kSlotBytes;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    net::BufferPool pool(64 << 20);
    DirtyExtents extents(&pool);
    Model model(kBytes);
    for (int step = 0; step < 60; ++step) {
      const uint64_t offset = random() % kBytes;
      const uint64_t most = random() % 3 == 0 ? 400'000 : 9'000;
      const uint64_t length = std::min<uint64_t>(kBytes - offset, 1 + random() % most);
      switch (random() % 10) {
        case 0: {
          uint64_t dropped = 0;
          for (size_t i = offset; i < kBytes; ++i) {
            if (model[i]) ++dropped;
            model[i].reset();
          }
          EXPECT_EQ(extents.TruncateTo(offset), dropped);
          break;
        }
        case 1: {
          uint64_t previous_end = 0;
          for (const ReadyExtent& ready : extents.Take(random() % 2 == 0)) {
            EXPECT_GE(ready.offset, previous_end);
            previous_end = ready.end();
            EXPECT_EQ(ready.offset / kSlotBytes, (ready.end() - 1) / kSlotBytes) << "crosses a slot";
            for (size_t i = 0; i < ready.data.size(); ++i) {
              ASSERT_EQ(model[ready.offset + i], ready.data.bytes[i]);
              model[ready.offset + i].reset();
            }
          }
          break;
        }
        default:
          WriteBoth(extents, model, offset, Pattern(length, random()));
      }
      uint64_t dirty = 0, in_ranges = 0;
      for (size_t i = offset; i < offset + length; ++i) dirty += model[i].has_value() ? 1 : 0;
      const bool overlaps = dirty != 0;
      for (const Gap& range : extents.Ranges(offset, length)) {
        for (size_t i = range.offset; i < range.offset + range.length; ++i) ASSERT_TRUE(model[i].has_value());
        in_ranges += range.length;
      }
      EXPECT_EQ(in_ranges, dirty);
      EXPECT_EQ(extents.Overlaps(offset, length), overlaps);
    }
    ExpectEqual(extents, model);
  }
}

}  // namespace
}  // namespace cairn::client

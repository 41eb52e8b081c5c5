// Keys of the index. Numbers are big endian, so that RocksDB's order is theirs; a chunk's entry stands
// directly before its extents.
//   c CHUNK e          entry          c CHUNK x BLOCK   extent        g CHUNK   grave
//   q CHUNK            end of quarantine (u64)          l SEGMENT       live bytes (u64)
//   m position | m floor | m totals | m format
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace cairn::chunkserver::keys {

inline constexpr std::string_view kPosition = "mposition";
inline constexpr std::string_view kFloor = "mfloor";
inline constexpr std::string_view kTotals = "mtotals";
inline constexpr std::string_view kFormat = "mformat";
inline constexpr size_t kChunkPrefixBytes = 9;

inline void AppendBigEndian(std::string* out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift & 0xff));
}
inline uint64_t ReadBigEndian(std::string_view text) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8 && i < text.size(); ++i) value = value << 8 | static_cast<uint8_t>(text[i]);
  return value;
}
inline std::string WithNumber(char kind, uint64_t number) {
  std::string key(1, kind);
  AppendBigEndian(&key, number);
  return key;
}
inline std::string Entry(ChunkId chunk) { return WithNumber('c', chunk.value()) + 'e'; }
inline std::string ExtentAt(ChunkId chunk, uint64_t block) {
  std::string key = WithNumber('c', chunk.value()) + 'x';
  AppendBigEndian(&key, block);
  return key;
}
inline std::string GraveOf(ChunkId chunk) { return WithNumber('g', chunk.value()); }
inline std::string Quarantine(ChunkId chunk) { return WithNumber('q', chunk.value()); }
inline std::string Live(uint32_t segment) { return WithNumber('l', segment); }

inline bool IsEntry(std::string_view key) { return key.size() == kChunkPrefixBytes + 1 && key[0] == 'c'; }
inline bool IsExtentOf(std::string_view key, std::string_view entry_key) {
  return key.size() == kChunkPrefixBytes + 9 && key[kChunkPrefixBytes] == 'x' &&
         key.substr(0, kChunkPrefixBytes) == entry_key.substr(0, kChunkPrefixBytes);
}
inline ChunkId ChunkOf(std::string_view key) { return ChunkId(ReadBigEndian(key.substr(1))); }
inline uint64_t BlockOf(std::string_view key) { return ReadBigEndian(key.substr(kChunkPrefixBytes + 1)); }

}  // namespace cairn::chunkserver::keys

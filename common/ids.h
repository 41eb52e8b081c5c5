// Strong types for ids, epochs and stamps, so that two integers cannot be swapped.
// Zero is "none" for every id. Ids are never used twice in the life of a cluster.
// Thread-safety: values.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace cairn {

template <typename Tag, typename Int>
class StrongInt {
 public:
  using Underlying = Int;
  constexpr StrongInt() = default;
  constexpr explicit StrongInt(Int value) : value_(value) {}
  constexpr Int value() const { return value_; }
  constexpr explicit operator bool() const { return value_ != 0; }
  constexpr auto operator<=>(const StrongInt&) const = default;

 private:
  Int value_ = 0;
};

using ChunkId = StrongInt<struct ChunkIdTag, uint64_t>;
using InodeId = StrongInt<struct InodeIdTag, uint64_t>;
using SessionId = StrongInt<struct SessionIdTag, uint64_t>;
using ServerId = StrongInt<struct ServerIdTag, uint32_t>;
// A fencing number handed out by the master, unique in the cluster. A write lease's number is the epoch of
// the chunks that are opened under it.
using Epoch = StrongInt<struct EpochTag, uint64_t>;

inline constexpr InodeId kRootInode{1};

// What a replica has accepted: the epoch that the last mutation (or begin) belongs to, and how many mutations
// the chunk has seen. Within one chunk, equal stamps mean equal bytes; a higher stamp is never older.
struct Stamp {
  Epoch epoch;
  uint64_t seq = 0;
  constexpr auto operator<=>(const Stamp&) const = default;
};

std::string ToString(Stamp stamp);  // "17.4"
std::string ToString(ChunkId id);   // "0x000000000000002a"
inline std::string ToString(InodeId id) { return std::to_string(id.value()); }
inline std::string ToString(SessionId id) { return std::to_string(id.value()); }
inline std::string ToString(ServerId id) { return "cs" + std::to_string(id.value()); }
inline std::string ToString(Epoch epoch) { return std::to_string(epoch.value()); }

// 128-bit random identity of a cluster, a chunkserver, a disk or a boot, written as 32 hex digits.
struct Uuid {
  uint64_t high = 0;
  uint64_t low = 0;
  constexpr auto operator<=>(const Uuid&) const = default;
  constexpr explicit operator bool() const { return high != 0 || low != 0; }
  std::string ToString() const;
  // False if `text` is not 32 hex digits (dashes are ignored).
  static bool Parse(const std::string& text, Uuid* out);
  static Uuid Random();  // from the kernel's random source
};

}  // namespace cairn

template <typename Tag, typename Int>
struct std::hash<cairn::StrongInt<Tag, Int>> {
  size_t operator()(cairn::StrongInt<Tag, Int> id) const noexcept {
    // Fibonacci hashing: ids are dense counters, the identity would cluster in power-of-two tables.
    return static_cast<size_t>(static_cast<uint64_t>(id.value()) * 0x9E3779B97F4A7C15ull);
  }
};
template <>
struct std::hash<cairn::Uuid> {
  size_t operator()(const cairn::Uuid& id) const noexcept {
    return id.high ^ (id.low * 0x9E3779B97F4A7C15ull);
  }
};

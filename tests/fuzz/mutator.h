// Mutations of recorded valid inputs, for the fuzz tests.
//
//   CAIRN_FUZZ_ROUNDS=5000000 CAIRN_FUZZ_SEED=7 tests/parser_fuzz_test     a long run of the same
//
// A run is decided by its seed and its rounds alone. Thread-safety: none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

namespace cairn::fuzz {

using Bytes = std::vector<std::byte>;

inline uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}
inline uint64_t Seed() { return FromEnvironment("CAIRN_FUZZ_SEED", 1); }
inline uint64_t Rounds(uint64_t in_ci) { return FromEnvironment("CAIRN_FUZZ_ROUNDS", in_ci); }

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }
  // One to four changes; `other` is another valid input, of which pieces may be taken.
  Bytes Mutate(Bytes bytes, std::span<const std::byte> other) {
    for (uint64_t changes = 1 + Below(4); changes > 0; --changes) Change(&bytes, other);
    return bytes;
  }

 private:
  void Change(Bytes* bytes, std::span<const std::byte> other) {
    const size_t at = Below(bytes->size() + 1);
    const auto here = bytes->begin() + static_cast<ptrdiff_t>(at);
    const size_t rest = bytes->size() - at;
    switch (Below(8)) {
      case 0:  // a bit
        if (rest > 0) (*bytes)[at] ^= std::byte(1u << Below(8));
        return;
      case 1:  // a byte
        if (rest > 0) (*bytes)[at] = std::byte(Below(256));
        return;
      case 2:
      case 3: {  // a number of one to eight bytes that is at the edge of something
        static constexpr uint64_t kEdges[] = {0,
                                              1,
                                              2,
                                              0x7f,
                                              0x80,
                                              0xff,
                                              0x100,
                                              0xfff,
                                              0x1000,
                                              0x7fff,
                                              0xffff,
                                              0x10000,
                                              0x7fffffff,
                                              0x80000000,
                                              0xffffffff,
                                              0x100000000,
                                              0x7fffffffffffffff,
                                              0x8000000000000000,
                                              0xffffffffffffffff};
        const uint64_t number = kEdges[Below(std::size(kEdges))];
        const size_t width = size_t{1} << Below(4);
        for (size_t i = 0; i < width && i < rest; ++i) (*bytes)[at + i] = std::byte(number >> (8 * i));
        return;
      }
      case 4:  // cut off
        bytes->resize(at);
        return;
      case 5: {  // a piece is missing
        bytes->erase(here, here + static_cast<ptrdiff_t>(Below(std::min<size_t>(rest, 16) + 1)));
        return;
      }
      case 6: {  // a piece comes twice
        const size_t n = std::min<size_t>(rest, 1 + Below(32));
        const Bytes piece(here, here + static_cast<ptrdiff_t>(n));
        bytes->insert(here, piece.begin(), piece.end());
        return;
      }
      default: {  // a piece of another one
        if (other.empty()) return;
        const size_t from = Below(other.size());
        const size_t n = std::min<size_t>(other.size() - from, 1 + Below(32));
        bytes->insert(here, other.begin() + static_cast<ptrdiff_t>(from),
                      other.begin() + static_cast<ptrdiff_t>(from + n));
      }
    }
  }

  std::mt19937_64 random_;
};

}  // namespace cairn::fuzz

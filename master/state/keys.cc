#include "master/state/keys.h"

#include <utility>

#include "common/check.h"

namespace cairn::master::keys {
namespace {

template <typename Int>
Int ReadBigEndian(std::string_view key, size_t offset) {
  CAIRN_CHECK(offset + sizeof(Int) <= key.size(), "a metadata key is too short");
  Int value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i)
    value = static_cast<Int>(value << 8 | static_cast<uint8_t>(key[offset + i]));
  return value;
}

}  // namespace

KeyBuilder& KeyBuilder::Add(uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) key_.push_back(static_cast<char>(value >> shift));
  return *this;
}

KeyBuilder& KeyBuilder::Add(ServerId server) {
  for (int shift = 24; shift >= 0; shift -= 8) key_.push_back(static_cast<char>(server.value() >> shift));
  return *this;
}

uint64_t NumberAt(std::string_view key, size_t offset) { return ReadBigEndian<uint64_t>(key, offset); }
uint32_t SmallNumberAt(std::string_view key, size_t offset) { return ReadBigEndian<uint32_t>(key, offset); }

std::string After(std::string_view prefix) {
  std::string upper(prefix);
  while (!upper.empty() && static_cast<uint8_t>(upper.back()) == 0xff) upper.pop_back();
  if (!upper.empty()) upper.back() = static_cast<char>(static_cast<uint8_t>(upper.back()) + 1);
  return upper;
}

}  // namespace cairn::master::keys

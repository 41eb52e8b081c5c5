#include "common/ids.h"

#include <sys/random.h>

#include <cinttypes>
#include <cstdio>

#include "common/check.h"

namespace cairn {

std::string ToString(Stamp stamp) {
  return std::to_string(stamp.epoch.value()) + "." + std::to_string(stamp.seq);
}

std::string ToString(ChunkId id) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%016" PRIx64, id.value());
  return text;
}

std::string Uuid::ToString() const {
  char text[40];
  std::snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, high, low);
  return text;
}

bool Uuid::Parse(const std::string& text, Uuid* out) {
  uint64_t words[2] = {0, 0};
  int digits = 0;
  for (char c : text) {
    if (c == '-') continue;
    int value;
    if (c >= '0' && c <= '9') {
      value = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      value = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      value = c - 'A' + 10;
    } else {
      return false;
    }
    if (digits >= 32) return false;
    words[digits / 16] = (words[digits / 16] << 4) | static_cast<uint64_t>(value);
    ++digits;
  }
  if (digits != 32) return false;
  *out = {words[0], words[1]};
  return true;
}

Uuid Uuid::Random() {
  Uuid id;
  while (!id) CAIRN_CHECK(getrandom(&id, sizeof id, 0) == sizeof id, "getrandom failed");
  return id;
}

}  // namespace cairn

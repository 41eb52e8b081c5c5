// Little-endian integers in byte strings, for the store's own formats.
// Thread-safety: Writer and Reader are used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace cairn::chunkserver {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the formats are written for little-endian machines");

class ByteWriter {
 public:
  explicit ByteWriter(size_t reserve = 0) { bytes_.reserve(reserve); }
  void U8(uint8_t value) { Raw(&value, 1); }
  void U16(uint16_t value) { Raw(&value, 2); }
  void U32(uint32_t value) { Raw(&value, 4); }
  void U64(uint64_t value) { Raw(&value, 8); }
  void U32s(std::span<const uint32_t> values) { Raw(values.data(), values.size_bytes()); }
  void Set32(size_t at, uint32_t value) { std::memcpy(bytes_.data() + at, &value, 4); }
  std::vector<std::byte>& bytes() { return bytes_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  void Raw(const void* data, size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }
  std::vector<std::byte> bytes_;
};

// Reads past the end give zeros and make ok() false for good.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  explicit ByteReader(std::string_view text)
      : bytes_(reinterpret_cast<const std::byte*>(text.data()), text.size()) {}
  uint8_t U8() { return Get<uint8_t>(); }
  uint16_t U16() { return Get<uint16_t>(); }
  uint32_t U32() { return Get<uint32_t>(); }
  uint64_t U64() { return Get<uint64_t>(); }
  std::vector<uint32_t> U32s(size_t count) {
    if (count > bytes_.size() / 4) {
      ok_ = false;
      return {};
    }
    std::vector<uint32_t> values(count);
    if (count > 0) std::memcpy(values.data(), bytes_.data(), count * 4);
    bytes_ = bytes_.subspan(count * 4);
    return values;
  }
  size_t left() const { return bytes_.size(); }
  bool ok() const { return ok_; }

 private:
  template <typename T>
  T Get() {
    T value = 0;
    if (bytes_.size() < sizeof(T)) {
      ok_ = false;
      bytes_ = {};
      return 0;
    }
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace cairn::chunkserver

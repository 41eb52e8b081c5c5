// Little-endian writing and checked reading of message fields.
//
// A Reader never reads beyond its bytes: the first field that does not fit makes it fail, every later field
// reads as zero, and Finish() reports it. So a decoder reads straight through and asks once at the end.
//
// Thread-safety: values.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace cairn::wire {

static_assert(std::endian::native == std::endian::little, "the codecs copy integers as they lie in memory");

class Writer {
 public:
  explicit Writer(size_t expected_bytes = 64) { out_.reserve(expected_bytes); }

  template <typename Int>
  void Put(Int value) {
    static_assert(std::is_unsigned_v<Int>);
    PutBytes(&value, sizeof(value));
  }
  void PutBool(bool value) { Put<uint8_t>(value ? 1 : 0); }
  void PutStamp(Stamp stamp) {
    Put(stamp.epoch.value());
    Put(stamp.seq);
  }
  void PutUuid(const Uuid& uuid) {
    Put(uuid.high);
    Put(uuid.low);
  }
  // At most 65535 bytes; the rest is cut off.
  void PutString(std::string_view text) {
    text = text.substr(0, UINT16_MAX);
    Put(static_cast<uint16_t>(text.size()));
    PutBytes(text.data(), text.size());
  }
  void PutStatus(const Status& status) {
    Put(static_cast<uint16_t>(status.code()));
    PutString(status.message());
  }
  void PutBytes(const void* data, size_t bytes) {
    if (bytes == 0) return;
    const size_t at = out_.size();
    out_.resize(at + bytes);
    std::memcpy(out_.data() + at, data, bytes);
  }
  std::vector<std::byte> Take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view what) : rest_(bytes), what_(what) {}

  template <typename Int>
  Int Get() {
    static_assert(std::is_unsigned_v<Int>);
    Int value = 0;
    GetBytes(&value, sizeof(value));
    return value;
  }
  bool GetBool() {
    const uint8_t value = Get<uint8_t>();
    if (value > 1) Fail("a flag is neither 0 nor 1");
    return value == 1;
  }
  Stamp GetStamp() {
    const Epoch epoch{Get<uint64_t>()};
    return Stamp{epoch, Get<uint64_t>()};
  }
  Uuid GetUuid() {
    const uint64_t high = Get<uint64_t>();
    return Uuid{high, Get<uint64_t>()};
  }
  std::string GetString(size_t max_bytes = UINT16_MAX) {
    const size_t bytes = Get<uint16_t>();
    if (bytes > max_bytes) Fail("a string of " + std::to_string(bytes) + " bytes is longer than allowed");
    if (bytes > rest_.size()) Fail("a string ends behind the message");
    if (failed()) return {};
    std::string text(reinterpret_cast<const char*>(rest_.data()), bytes);
    rest_ = rest_.subspan(bytes);
    return text;
  }
  // A code that this version does not know becomes kIoError, as everywhere.
  Status GetStatus() {
    const uint16_t code = Get<uint16_t>();
    std::string message = GetString();
    if (code == 0 || failed()) return Status::Ok();
    if (!IsKnownStatusCode(code)) {
      return Status(StatusCode::kIoError, "unknown status " + std::to_string(code) + ": " + message);
    }
    return Status(static_cast<StatusCode>(code), std::move(message));
  }
  // Number of items of a list, each at least `item_bytes` long. 0 after a failure.
  uint32_t GetCount(uint32_t max_items, size_t item_bytes) {
    const uint32_t count = Get<uint32_t>();
    if (count > max_items) Fail("a list of " + std::to_string(count) + " items is longer than allowed");
    if (count > rest_.size() / item_bytes) Fail("a list ends behind the message");
    return failed() ? 0 : count;
  }
  void GetBytes(void* to, size_t bytes) {
    if (bytes == 0) return;
    if (failed() || bytes > rest_.size()) {
      Fail("it ends too early");
      return;
    }
    std::memcpy(to, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
  }

  void Fail(std::string_view why) {
    if (error_.empty()) error_ = why;
    rest_ = {};
  }
  bool failed() const { return !error_.empty(); }
  // kMalformed if any field failed or if bytes are left over.
  Status Finish() {
    if (!failed() && !rest_.empty()) Fail(std::to_string(rest_.size()) + " bytes follow its end");
    if (!failed()) return Status::Ok();
    return Status(StatusCode::kMalformed, std::string(what_) + ": " + error_);
  }

 private:
  std::span<const std::byte> rest_;
  std::string_view what_;
  std::string error_;
};

}  // namespace cairn::wire

#include "common/wire/frame.h"

#include <cstring>
#include <string>

#include "common/checksum.h"

namespace cairn::wire {
namespace {

template <typename Int>
void Store(std::array<std::byte, kHeaderBytes>& to, size_t at, Int value) {
  std::memcpy(to.data() + at, &value, sizeof(value));
}

template <typename Int>
Int Load(std::span<const std::byte, kHeaderBytes> from, size_t at) {
  Int value;
  std::memcpy(&value, from.data() + at, sizeof(value));
  return value;
}

constexpr size_t kHeaderCrcAt = 28;

}  // namespace

std::array<std::byte, kHeaderBytes> EncodeHeader(const FrameHeader& header) {
  std::array<std::byte, kHeaderBytes> bytes{};
  Store(bytes, 0, kFrameMagic);
  Store(bytes, 4, kWireVersion);
  Store(bytes, 5, header.type);
  Store(bytes, 8, header.request_id);
  Store(bytes, 16, header.meta_bytes);
  Store(bytes, 20, header.data_bytes);
  Store(bytes, 24, header.meta_crc);
  Store(bytes, kHeaderCrcAt, Crc32c(std::span<const std::byte>(bytes).first(kHeaderCrcAt)));
  return bytes;
}

Result<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> bytes) {
  if (Load<uint32_t>(bytes, 0) != kFrameMagic) {
    return Status(StatusCode::kMalformed, "not a Cairn frame (wrong magic number)");
  }
  // Before the version: a flipped bit there is damage, not another version.
  if (Load<uint32_t>(bytes, kHeaderCrcAt) != Crc32c(bytes.first(kHeaderCrcAt))) {
    return Status(StatusCode::kMalformed, "the checksum of a frame header does not match");
  }
  const auto version = Load<uint8_t>(bytes, 4);
  if (version != kWireVersion) {
    return Status(StatusCode::kVersionMismatch, "the peer speaks version " + std::to_string(version) +
                                                    " of the data plane, this program version " +
                                                    std::to_string(kWireVersion));
  }
  if (Load<uint16_t>(bytes, 6) != 0) {
    return Status(StatusCode::kMalformed, "reserved bits of a frame header are set");
  }
  FrameHeader header;
  header.type = Load<uint8_t>(bytes, 5);
  header.request_id = Load<uint64_t>(bytes, 8);
  header.meta_bytes = Load<uint32_t>(bytes, 16);
  header.data_bytes = Load<uint32_t>(bytes, 20);
  header.meta_crc = Load<uint32_t>(bytes, 24);
  if (header.meta_bytes > kMaxMetaBytes || header.data_bytes > kMaxDataBytes) {
    return Status(StatusCode::kResourceExhausted,
                  "a frame of " + std::to_string(header.meta_bytes) + " + " +
                      std::to_string(header.data_bytes) + " bytes is larger than the " +
                      std::to_string(kMaxMetaBytes) + " + " + std::to_string(kMaxDataBytes) + " allowed");
  }
  return header;
}

}  // namespace cairn::wire

// Bytes with shared ownership: how payloads travel through queues and sockets without being copied. The bytes
// may be a part of whatever `owner` keeps alive (a page of a write-behind buffer, a pooled receive buffer, a
// vector).
//
// Thread-safety: values; the bytes must not change while anybody holds them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace cairn::net {

struct SharedBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;

  size_t size() const { return bytes.size(); }
  bool empty() const { return bytes.empty(); }
  const std::byte* data() const { return bytes.data(); }

  // Takes any contiguous container of std::byte.
  template <typename Container>
  static SharedBytes Own(Container container) {
    auto owner = std::make_shared<const Container>(std::move(container));
    std::span<const std::byte> bytes(owner->data(), owner->size());
    return {bytes, std::move(owner)};
  }
};

}  // namespace cairn::net

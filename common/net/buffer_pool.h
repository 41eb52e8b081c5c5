// Buffers for received payloads. Touching fresh memory costs several times more than reusing it, so buffers
// go back to a bounded free list per size class instead of to the allocator.
//
// Thread-safety: all methods may be called from any thread; buffers may outlive the pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "common/net/shared_bytes.h"

namespace cairn::net {

// A writable buffer; give it away as SharedBytes when it is filled.
struct PooledBuffer {
  std::span<std::byte> bytes;
  std::shared_ptr<void> owner;

  SharedBytes Share() const { return {bytes, owner}; }
};

class BufferPool {
 public:
  // Keeps at most `max_idle_bytes` for reuse.
  explicit BufferPool(size_t max_idle_bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer of exactly `bytes` bytes, aligned to 4096, content undefined.
  PooledBuffer Acquire(size_t bytes);

  size_t idle_bytes() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cairn::net

#include "common/net/buffer_pool.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "common/check.h"

namespace cairn::net {
namespace {

constexpr size_t kAlignment = 4096;
constexpr size_t kSmallestBits = 12;  // 4 KiB
constexpr size_t kLargestBits = 23;   // 8 MiB; larger ones are not kept
constexpr size_t kClasses = kLargestBits - kSmallestBits + 1;

size_t ClassOf(size_t bytes) {
  const size_t bits = static_cast<size_t>(std::bit_width(bytes <= 1 ? size_t{0} : bytes - 1));
  return bits <= kSmallestBits ? 0 : bits - kSmallestBits;
}

size_t ClassBytes(size_t size_class) { return size_t{1} << (size_class + kSmallestBits); }

void* Allocate(size_t bytes) {
  void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  CAIRN_CHECK(memory != nullptr, "out of memory");
  return memory;
}

}  // namespace

struct BufferPool::State {
  explicit State(size_t max_idle) : max_idle_bytes(max_idle) {}
  ~State() {
    for (auto& list : idle) {
      for (void* memory : list) std::free(memory);
    }
  }

  void* Take(size_t size_class) {
    {
      std::lock_guard lock(mu);
      auto& list = idle[size_class];
      if (!list.empty()) {
        void* memory = list.back();
        list.pop_back();
        idle_bytes -= ClassBytes(size_class);
        return memory;
      }
    }
    return Allocate(ClassBytes(size_class));
  }

  void Give(void* memory, size_t size_class) {
    {
      std::lock_guard lock(mu);
      if (idle_bytes + ClassBytes(size_class) <= max_idle_bytes) {
        idle[size_class].push_back(memory);
        idle_bytes += ClassBytes(size_class);
        return;
      }
    }
    std::free(memory);
  }

  const size_t max_idle_bytes;
  std::mutex mu;
  std::array<std::vector<void*>, kClasses>
      idle;               // guarded by mu; last returned is first reused (warm in the cache)
  size_t idle_bytes = 0;  // guarded by mu
};

BufferPool::BufferPool(size_t max_idle_bytes) : state_(std::make_shared<State>(max_idle_bytes)) {}
BufferPool::~BufferPool() = default;

PooledBuffer BufferPool::Acquire(size_t bytes) {
  if (bytes == 0) return {};
  const size_t size_class = ClassOf(bytes);
  std::shared_ptr<void> owner;
  if (size_class >= kClasses) {
    owner.reset(Allocate(bytes), std::free);
  } else {
    owner.reset(state_->Take(size_class),
                [state = state_, size_class](void* memory) { state->Give(memory, size_class); });
  }
  return {std::span(static_cast<std::byte*>(owner.get()), bytes), std::move(owner)};
}

size_t BufferPool::idle_bytes() const {
  std::lock_guard lock(state_->mu);
  return state_->idle_bytes;
}

}  // namespace cairn::net

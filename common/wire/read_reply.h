// Whether an answer to a read may be believed. Thread-safety: a pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/ids.h"
#include "common/status.h"
#include "common/wire/messages.h"

namespace cairn::wire {

// kMalformed: it does not cover [offset, offset + length) of the chunk as far as that reaches, or more than its blocks. kCorrupt:
// bytes do not match their checksums. Otherwise the status in the reply.
Status CheckReadReply(ChunkId chunk, uint64_t offset, uint64_t length, const ReadReply& reply,
                      std::span<const std::byte> data);

}  // namespace cairn::wire

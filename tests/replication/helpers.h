// Short ways to write the values of the protocol in tests.
#pragma once

#include <initializer_list>

#include "common/replication/types.h"

namespace cairn::replication {

inline constexpr ChunkId kChunk{42};

inline Stamp S(uint64_t epoch, uint64_t seq) { return {Epoch{epoch}, seq}; }

inline Configuration Config(uint64_t epoch, std::initializer_list<uint32_t> members, uint32_t write_quorum,
                            Stamp base = {}) {
  Configuration config;
  config.epoch = Epoch{epoch};
  for (uint32_t member : members) config.members.push_back(ServerId{member});
  config.write_quorum = write_quorum;
  config.base = base;
  return config;
}

inline ReplicaInfo At(Stamp accepted, uint64_t length = 0) {
  ReplicaInfo info;
  info.chunk = kChunk;
  info.promised = accepted.epoch;
  info.accepted = accepted;
  info.length = length;
  return info;
}

inline ReplicaInfo AmnesicAt(Stamp accepted) {
  ReplicaInfo info = At(accepted);
  info.amnesic = true;
  return info;
}

inline Mutation Write(uint64_t epoch, uint64_t seq, uint64_t offset = 0, uint64_t length = 10) {
  Mutation mutation;
  mutation.chunk = kChunk;
  mutation.epoch = Epoch{epoch};
  mutation.seq = seq;
  mutation.offset = offset;
  mutation.length = length;
  return mutation;
}

inline Mutation BeginWrite(uint64_t epoch, Stamp base, uint64_t offset = 0, uint64_t length = 10) {
  Mutation mutation = Write(epoch, base.seq + 1, offset, length);
  mutation.begin = base;
  return mutation;
}

}  // namespace cairn::replication

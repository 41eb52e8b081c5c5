#include "client/session/convert.h"

namespace cairn::client {
namespace {

Stamp FromProto(const proto::Stamp& stamp) { return {Epoch(stamp.epoch()), stamp.seq()}; }

void Fill(Stamp stamp, proto::Stamp* out) {
  out->set_epoch(stamp.epoch.value());
  out->set_seq(stamp.seq);
}

}  // namespace

Status FromProto(const proto::StatusProto& status) {
  if (status.code() == 0) return Status::Ok();
  const auto code =
      IsKnownStatusCode(status.code()) ? static_cast<StatusCode>(status.code()) : StatusCode::kIoError;
  return Status(code, status.message());
}

proto::StatusProto ToProto(const Status& status) {
  proto::StatusProto out;
  out.set_code(static_cast<uint32_t>(status.code()));
  out.set_message(status.message());
  return out;
}

TimeSpec FromProto(const proto::Time& time) { return {time.seconds(), time.nanos()}; }

proto::Time ToProto(TimeSpec time) {
  proto::Time out;
  out.set_seconds(time.seconds);
  out.set_nanos(time.nanos);
  return out;
}

TimeSpec TimeFromNanos(int64_t wall_ns) {
  return {wall_ns / kNanosPerSecond, static_cast<uint32_t>(wall_ns % kNanosPerSecond)};
}

FileType FromProto(proto::FileType type) {
  switch (type) {
    case proto::DIRECTORY:
      return FileType::kDirectory;
    case proto::SYMLINK:
      return FileType::kSymlink;
    case proto::FIFO:
      return FileType::kFifo;
    case proto::SOCKET:
      return FileType::kSocket;
    case proto::CHAR_DEVICE:
      return FileType::kCharDevice;
    case proto::BLOCK_DEVICE:
      return FileType::kBlockDevice;
    default:
      return FileType::kRegular;
  }
}

proto::FileType ToProto(FileType type) { return static_cast<proto::FileType>(static_cast<int>(type)); }

Attributes FromProto(const proto::Attr& attr) {
  Attributes out;
  out.inode = InodeId(attr.inode());
  out.type = FromProto(attr.type());
  out.mode = attr.mode();
  out.nlink = attr.nlink();
  out.uid = attr.uid();
  out.gid = attr.gid();
  out.rdev = attr.rdev();
  out.size = attr.size();
  out.blocks_512 = attr.blocks_512();
  out.chunk_bytes = attr.chunk_bytes();
  out.atime = FromProto(attr.atime());
  out.mtime = FromProto(attr.mtime());
  out.ctime = FromProto(attr.ctime());
  out.btime = FromProto(attr.btime());
  out.generation = attr.generation();
  out.has_acl = attr.has_acl();
  return out;
}

ChunkPlace FromProto(const proto::ChunkLayout& layout) {
  ChunkPlace place;
  place.index = layout.index();
  place.chunk = ChunkId(layout.chunk());
  place.config.epoch = Epoch(layout.epoch());
  for (const uint32_t member : layout.members()) place.config.members.emplace_back(member);
  place.config.write_quorum = layout.write_quorum();
  place.config.base = FromProto(layout.base());
  place.sealed = FromProto(layout.sealed());
  for (const uint32_t carrier : layout.carriers()) place.carriers.emplace_back(carrier);
  place.length = layout.length();
  place.allocated_bytes = layout.allocated_bytes();
  place.damaged = layout.damaged();
  place.detail = layout.detail();
  return place;
}

std::vector<ChunkPlace> FromProto(const google::protobuf::RepeatedPtrField<proto::ChunkLayout>& layout) {
  std::vector<ChunkPlace> places;
  places.reserve(layout.size());
  for (const auto& chunk : layout) places.push_back(FromProto(chunk));
  return places;
}

ServerEntry FromProto(const proto::ServerAddress& server) {
  return {.server = ServerId(server.server()),
          .address = server.address(),
          .host_id = server.host_id(),
          .zone = server.zone(),
          .rack = server.rack(),
          .alive = server.alive(),
          .load = server.load()};
}

Policy FromProto(const proto::Policy& policy) {
  return {.replicas = policy.replicas(),
          .write_quorum = policy.write_quorum(),
          .chunk_bytes = policy.chunk_bytes(),
          .failure_domain = policy.failure_domain(),
          .storage_class = policy.storage_class(),
          .scatter_width = policy.has_scatter_width() ? std::optional(policy.scatter_width()) : std::nullopt,
          .trash_seconds = policy.has_trash_seconds() ? std::optional(policy.trash_seconds()) : std::nullopt};
}

proto::Policy ToProto(const Policy& policy) {
  proto::Policy out;
  out.set_replicas(policy.replicas);
  out.set_write_quorum(policy.write_quorum);
  out.set_chunk_bytes(policy.chunk_bytes);
  out.set_failure_domain(policy.failure_domain);
  out.set_storage_class(policy.storage_class);
  if (policy.scatter_width) out.set_scatter_width(*policy.scatter_width);
  if (policy.trash_seconds) out.set_trash_seconds(*policy.trash_seconds);
  return out;
}

void FillCommit(const PendingCommit& commit, proto::InodeCommit* out) {
  if (commit.size) out->set_size(*commit.size);
  std::optional<TimeSpec> mtime = commit.mtime;
  std::optional<TimeSpec> ctime = commit.mtime;
  if (commit.times) {
    if (commit.times->atime) *out->mutable_atime() = ToProto(*commit.times->atime);
    if (!mtime) mtime = commit.times->mtime;
    ctime = std::max(ctime.value_or(commit.times->ctime), commit.times->ctime);
  }
  if (mtime) *out->mutable_mtime() = ToProto(*mtime);
  if (ctime) *out->mutable_ctime() = ToProto(*ctime);
  for (const SealedChunk& seal : commit.seals) {
    proto::ChunkSeal* item = out->add_seals();
    item->set_chunk(seal.chunk.value());
    Fill(seal.stamp, item->mutable_stamp());
    item->set_length(seal.length);
    for (const ServerId carrier : seal.carriers) item->add_carriers(carrier.value());
    item->set_never_begun(seal.never_begun);
    if (!seal.never_begun) item->set_allocated_bytes(seal.allocated_bytes);
  }
  for (const DurableChunk& durable : commit.durable) {
    proto::ChunkDurable* item = out->add_durable();
    item->set_chunk(durable.chunk.value());
    Fill(durable.stamp, item->mutable_stamp());
  }
}

}  // namespace cairn::client

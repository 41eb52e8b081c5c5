#include "chunkserver/proto_values.h"

namespace cairn::chunkserver {

Stamp FromProto(const proto::Stamp& stamp) { return {Epoch{stamp.epoch()}, stamp.seq()}; }

void ToProto(Stamp stamp, proto::Stamp* to) {
  to->set_epoch(stamp.epoch.value());
  to->set_seq(stamp.seq);
}

Status FromProto(const proto::StatusProto& status) {
  if (status.code() == 0) return Status::Ok();
  const StatusCode code =
      IsKnownStatusCode(status.code()) ? static_cast<StatusCode>(status.code()) : StatusCode::kIoError;
  return Status(code, status.message());
}

void ToProto(const Status& status, proto::StatusProto* to) {
  to->set_code(static_cast<uint32_t>(status.code()));
  if (!status.ok()) to->set_message(status.message());
}

void ToProto(const replication::ReplicaInfo& info, proto::ReplicaInfoProto* to) {
  to->set_chunk(info.chunk.value());
  to->set_promised(info.promised.value());
  ToProto(info.accepted, to->mutable_accepted());
  ToProto(info.durable, to->mutable_durable());
  to->set_length(info.length);
  to->set_sealed(info.sealed.value());
  to->set_tombstone(info.tombstone.value());
  to->set_amnesic(info.amnesic);
  to->set_corrupt(info.corrupt);
}

void ToProto(const DiskStatus& disk, proto::DiskInfo* to) {
  if (disk.disk) to->set_disk_uuid(disk.disk.ToString());
  to->set_path(disk.path);
  to->set_file_system_id(disk.file_system_id);
  to->set_storage_class(disk.storage_class);
  to->set_total_bytes(disk.usage.total_bytes);
  to->set_free_bytes(disk.usage.free_bytes);
  to->set_used_bytes(disk.usage.used_bytes);
  to->set_reserve_bytes(disk.usage.reserve_bytes);
  to->set_chunks(disk.usage.chunks);
  to->set_amnesic(disk.amnesic);
  to->set_failed(!disk.failure.ok());
  if (!disk.failure.ok()) to->set_problem(disk.failure.message());
  to->set_draining(disk.draining);
  to->set_drain_note(disk.drain_note);
}

}  // namespace cairn::chunkserver

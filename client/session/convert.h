// Between the wire's messages and the client's values. What a master sends is taken as it is; unknown status
// codes become io_error. Thread-safety: pure functions.
#pragma once

#include <vector>

#include "client/data/file_data.h"
#include "client/data/server_directory.h"
#include "client/types.h"
#include "common/status.h"
#include "proto/cairn/session.pb.h"

namespace cairn::client {

Status FromProto(const proto::StatusProto& status);
proto::StatusProto ToProto(const Status& status);

Attributes FromProto(const proto::Attr& attr);
TimeSpec FromProto(const proto::Time& time);
proto::Time ToProto(TimeSpec time);
TimeSpec TimeFromNanos(int64_t wall_ns);
FileType FromProto(proto::FileType type);
proto::FileType ToProto(FileType type);

ChunkPlace FromProto(const proto::ChunkLayout& layout);
std::vector<ChunkPlace> FromProto(const google::protobuf::RepeatedPtrField<proto::ChunkLayout>& layout);
ServerEntry FromProto(const proto::ServerAddress& server);
Policy FromProto(const proto::Policy& policy);
proto::Policy ToProto(const Policy& policy);

// Adds a commit's size, time, seals and durable stamps to `out`; the lease fields are the caller's.
void FillCommit(const PendingCommit& commit, proto::InodeCommit* out);

}  // namespace cairn::client

// Between the kernel's structures and those of the client library. Thread-safety: pure functions over a
// request.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "client/types.h"

namespace cairn::fuse {

struct stat ToStat(const client::Attributes& attr, fuse_ino_t ino);
double ToSeconds(int64_t nanos);
// The part of a setattr request that Cairn keeps.
client::SetAttributes ToSetAttributes(const struct stat& attr, int to_set);
client::OpenFlags ToOpenFlags(int flags);
// Reads and writes carry the flags of the open file as they are now; pages written back from a mapping carry none.
client::StatusFlags ToStatusFlags(int flags);
client::FileType TypeOfMode(mode_t mode);
mode_t ModeOfType(client::FileType type);  // S_IFREG and so on

}  // namespace cairn::fuse

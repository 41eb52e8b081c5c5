// accessed: when files, directories and symbolic links were read last.
//
// No right is asked for and nothing is recalled: a time of last access only grows, and never beyond the present (or the last change,
// which another clock may have set a little later than this one). ctime and generation stay: nothing that anybody cached besides is wrong.
#include <algorithm>
#include <utility>

#include "master/state/ops/ops.h"

namespace cairn::master {
namespace {

bool Before(const proto::Time& a, const proto::Time& b) {
  return std::pair(a.seconds(), a.nanos()) < std::pair(b.seconds(), b.nanos());
}

}  // namespace

Status ApplyAccessed(Context& c, const proto::AccessedOp& op) {
  if (op.files_size() > kMaxAccessed) {
    return {StatusCode::kInvalidArgument,
            std::to_string(op.files_size()) + " times of last access in one request, at most " +
                std::to_string(kMaxAccessed) + " are possible"};
  }
  for (const proto::AccessTime& file : op.files()) {
    if (file.atime().nanos() > 999'999'999) {
      return {StatusCode::kInvalidArgument, "nanoseconds are below 1,000,000,000"};
    }
  }
  for (const proto::AccessTime& file : op.files()) {
    const InodeId inode(file.inode());
    Result<proto::InodeRecord> record = LoadInode(c.txn(), inode);
    if (!record.ok()) continue;  // removed meanwhile
    const proto::Time latest = std::max({c.now(), record->mtime(), record->ctime()}, Before);
    const proto::Time time = std::min(file.atime(), latest, Before);
    if (!Before(record->atime(), time)) continue;
    *record->mutable_atime() = time;
    SaveInode(&c.txn(), inode, *record);
    c.effects().accessed.push_back(inode);
  }
  return Status::Ok();
}

}  // namespace cairn::master

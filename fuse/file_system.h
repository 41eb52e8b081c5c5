// The kernel's requests, answered from a Client.
//
// One static function per request (grouped by file: names.cc, attributes.cc, files.cc, directories.cc,
// locks.cc, xattrs.cc); the request's user data is the FileSystem. Inode numbers are the cluster's, except
// that the kernel's root (1) stands for the mounted directory. Replies are sent exactly once per request.
// Thread-safety: requests run in parallel in the session's threads.
#pragma once

#include <atomic>
#include <string>

#include "client/client.h"
#include "fuse/convert.h"
#include "fuse/error_log.h"
#include "fuse/id_map.h"
#include "fuse/interrupted_locks.h"
#include "fuse/kernel_cache.h"
#include "fuse/lookup_counts.h"
#include "fuse/removed_directories.h"
#include "fuse/requests_in_progress.h"
#include "fuse/shared_mappings.h"

namespace cairn::fuse {

struct FileSystemOptions {
  InodeId root = kRootInode;  // directory shown as the root of the mount
  bool cache_names = true;    // false: every path component is looked up again
  bool directory_access_times = true;
  const Ids* ids = &Ids::Same();  // outlives the client
};

class FileSystem {
 public:
  FileSystem(client::Client& client, KernelCache& kernel_cache, const FileSystemOptions& options,
             const Clock* clock, OperationMetrics* metrics = nullptr)
      : client_(client),
        kernel_cache_(kernel_cache),
        options_(options),
        errors_(clock),
        requests_(clock, metrics),
        interrupted_locks_(client),
        shared_mappings_(kernel_cache) {}

  static const fuse_lowlevel_ops& Operations();

  client::Client& client() { return client_; }
  ErrorLog& errors() { return errors_; }
  LookupCounts& counts() { return counts_; }
  RemovedDirectories& removed() { return removed_; }
  KernelCache& kernel_cache() { return kernel_cache_; }
  RequestsInProgress& requests() { return requests_; }
  InterruptedLocks& interrupted_locks() { return interrupted_locks_; }
  SharedMappings& shared_mappings() { return shared_mappings_; }
  const FileSystemOptions& options() const { return options_; }
  // INIT was answered: the kernel sends requests.
  bool initialized() const { return initialized_.load(); }
  void SetInitialized() { initialized_.store(true); }
  // Whether what is written past the kernel's pages (FOPEN_DIRECT_IO) drops those in its way: Linux 6.6 and later do.
  bool direct_drops_pages() const { return direct_drops_pages_.load(); }
  void SetDirectDropsPages(bool drops) { direct_drops_pages_.store(drops); }

  InodeId ToInode(fuse_ino_t ino) const { return ino == FUSE_ROOT_ID ? options_.root : InodeId{ino}; }
  fuse_ino_t ToIno(InodeId inode) const { return inode == options_.root ? FUSE_ROOT_ID : inode.value(); }
  // As the kernel is to see it: with the ids of this machine.
  struct stat StatOf(const client::Attributes& attr, fuse_ino_t ino) const;
  const Ids& ids() const { return *options_.ids; }
  fuse_entry_param ToEntryParam(const client::Entry& entry) const;

  // Replies; each ends the request. `operation` and `inode` are the context of a failure.
  void ReplyError(fuse_req_t req, const char* operation, InodeId inode, const Status& status);
  void ReplyStatus(fuse_req_t req, const char* operation, InodeId inode, const Status& status);
  void ReplyEntry(fuse_req_t req, const client::Entry& entry);

 private:
  client::Client& client_;
  KernelCache& kernel_cache_;
  const FileSystemOptions options_;
  ErrorLog errors_;
  LookupCounts counts_;
  RemovedDirectories removed_;
  std::atomic<bool> initialized_{false};
  std::atomic<bool> direct_drops_pages_{false};
  RequestsInProgress requests_;
  InterruptedLocks interrupted_locks_;
  SharedMappings shared_mappings_;
};

FileSystem& FileSystemOf(fuse_req_t req);
// Who asks, with ids of the cluster.
client::Caller CallerOf(fuse_req_t req);
// The same for what is made in their name; an error when it would have no owner.
Result<client::Caller> CreatorOf(fuse_req_t req);

// The context in which a request calls the client: waits end when its process dies, and `cairn mount status`
// shows it.
class RequestScope {
 public:
  // The name of the function that serves the request is the operation's.
  explicit RequestScope(fuse_req_t req, const char* operation = __builtin_FUNCTION());

 private:
  RequestsInProgress::Scope progress_;
  client::InterruptScope scope_;
};

// The groups of requests.
void AddNameOperations(fuse_lowlevel_ops& ops);
void AddAttributeOperations(fuse_lowlevel_ops& ops);
void AddFileOperations(fuse_lowlevel_ops& ops);
void AddDirectoryOperations(fuse_lowlevel_ops& ops);
void AddLockOperations(fuse_lowlevel_ops& ops);
void AddXattrOperations(fuse_lowlevel_ops& ops);

}  // namespace cairn::fuse

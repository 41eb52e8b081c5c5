// Copies files and trees between two Trees, in parallel, as cp(1) does.
//
// A regular file is written under a temporary name in the destination's directory and renamed when it is
// whole, so that an interruption leaves no half file under the final name. With resume the temporary name is
// stable and kept: the next run compares what is there with the source, block by block, and goes on at the
// first difference; files that are there under their final name are compared by content and skipped when
// equal. Order: directories before their files; metadata of directories last, because filling them changes
// their times.
//
// Thread-safety: Run from one thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cli/copy/progress.h"
#include "cli/copy/tree.h"

namespace cairn::cli {

struct CopyOptions {
  bool recursive = false;
  bool follow_links = true;      // -r and -a: false
  Preserve preserve;             // -p, -a
  bool keep_hard_links = false;  // -a
  bool no_clobber = false;
  bool resume = false;
  int jobs = 4;
};

// A file that was copied, for verification.
struct CopiedFile {
  std::string source;
  std::string destination;
};

class Copier {
 public:
  Copier(Context& context, const CopyOptions& options, Tree& from, Tree& to, bool same_tree,
         Progress& progress);

  // Copies one source to exactly `destination`. Errors of single files are reported as they happen and
  // counted.
  void Run(const std::string& source, const std::string& destination);
  const std::vector<CopiedFile>& copied() const { return copied_; }
  uint64_t skipped() const { return skipped_; }

 private:
  struct Task {
    std::string source, destination;
    Info info;
  };
  struct DirectoryDone {
    std::string source, destination;
    Info info;
  };

  // A directory that the walk is in.
  struct Level {
    size_t source_bytes = 0, destination_bytes = 0;  // of the walk's paths, up to and with this directory
    Info final_info;
    bool keep_metadata = false;  // it was there before
    std::vector<std::pair<std::string, Info>> entries;
    size_t next = 0;  // in entries
  };

  void Walk(std::string source, std::string destination, const Info& info);
  // A directory becomes a level, whose entries come next.
  Status CopyOne(const std::string& source, const std::string& destination, const Info& info,
                 std::vector<Level>* levels);
  Status EnterDirectory(const std::string& source, const std::string& destination, const Info& info,
                        std::vector<Level>* levels);
  Status CopySpecial(const std::string& source, const std::string& destination, const Info& info);
  Status CopyFile(const Task& task);
  Status CopyContent(Reader& reader, Writer& writer, uint64_t size, uint64_t start);
  Result<uint64_t> EqualPrefix(Reader& reader, const std::string& path, uint64_t limit);
  Status FinishMetadata(const std::string& source, const std::string& destination, const Info& info);
  Status ReplaceWith(const std::string& destination, const std::function<Status()>& make);
  void Worker();
  void Report(const Status& status);

  Context& context_;
  const CopyOptions options_;
  Tree& from_;
  Tree& to_;
  const bool same_tree_;
  Progress& progress_;
  const uint32_t umask_;

  std::mutex mu_;
  std::condition_variable work_, room_;
  std::deque<Task> queue_;          // guarded by mu_; bounded
  bool walked_ = false;             // guarded by mu_
  std::vector<CopiedFile> copied_;  // guarded by mu_ while workers run
  std::atomic<uint64_t> skipped_{0};
  std::mutex report_mu_;

  // Used by the walking thread only.
  std::vector<DirectoryDone> directories_;
  std::map<std::pair<uint64_t, InodeId>, std::string> first_names_;
  std::vector<std::pair<std::string, std::string>> links_;  // existing destination, further name
  std::set<std::pair<uint64_t, InodeId>> made_;  // directories made by this copy: not copied into themselves
};

// Compares every copied file with its source by SHA-256, both read anew; reports differences. Answers how
// many differ.
uint64_t VerifyCopies(Context& context, Tree& from, Tree& to, const std::vector<CopiedFile>& files,
                      Progress& progress);

}  // namespace cairn::cli

// Visits a directory and everything below it, for commands with -r.
//
//   Enter(/a) -> Enter(/a/b) -> Enter(/a/b/f) -> Leave(/a/b) -> Leave(/a)
//
// Without recursion, and with one path that grows and shrinks: a tree may be deeper than a thread's stack allows (each level of
// it is made with one mkdir by whoever may write there), and all its paths together larger than memory.
//
// Thread-safety: one thread per walk.
#pragma once

#include <string>

#include "cli/files/location.h"

namespace cairn::cli {

// What is visited; valid during the call.
struct Visited {
  const std::string& path;
  const std::string& name;
  const client::Attributes& attr;
  InodeId parent;    // the directory that it was found in
  size_t depth = 0;  // 0: where the walk began
};

class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  // Answers whether to go down, which counts for directories only. An error ends the walk.
  virtual Result<bool> Enter(const Visited& at) = 0;
  // After what is below a directory that was gone into. `listed`: of its listing. An error ends the walk.
  virtual Status Leave(const Visited& at, const Status& listed) {
    (void)at;
    return listed;
  }
};

// Begins at `attr`, which `where` leads to and whose name is `name` in `parent`. Interruption ends the walk without Leave.
Status WalkTree(const ClusterPath& where, InodeId parent, const std::string& name, const client::Attributes& attr,
                TreeVisitor& visitor);

}  // namespace cairn::cli

// One directory under random creates, links, renames and removals, and a model of the states it may be in
// after everybody lost power: those of its history since the last acknowledged fsync, for the master's log
// loses only its end.
//
// An entry is a symbolic link, a directory or a file; the first names its number in its target, a file in
// its permission bits, so that data that was not synced does not matter. What failed may have happened or
// not: the model then keeps both. Answers like EEXIST are checked against the model at once. Thread-safety:
// none.
#pragma once

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/cluster/load/block_file.h"

namespace cairn::cluster_test {

class NameTree {
 public:
  explicit NameTree(std::string name) : name_(std::move(name)) {}
  ~NameTree() { Close(); }
  NameTree(const NameTree&) = delete;
  NameTree& operator=(const NameTree&) = delete;

  int Open(int mount_fd);
  void Close();
  // 0 or errno. Contradictions between an answer and the model are remembered and reported by Check.
  int Step(std::mt19937_64& random, LoadCounts& counts);
  void Check(int mount_fd, Kept kept, bool settle, std::vector<std::string>& problems);

 private:
  using State = std::map<std::string, std::string>;  // name -> "l17", "d", "f052"
  using States = std::set<State>;

  int Create(const std::string& name, char kind, uint64_t number, bool sync, LoadCounts& counts);
  int Remove(const std::string& name);
  int Rename(const std::string& from, const std::string& to);
  int Sync();
  // error 0: only what `apply` allows stays, with its result; another definite error must be possible in some
  // state (`refused`); anything else leaves both open.
  template <typename Apply>
  int Note(int error, const std::string& what, const Apply& apply);
  int Look(int fd, State* state) const;
  static std::string Show(const State& state);
  void Synced() { history_ = {current_}; }

  const std::string name_;
  int fd_ = -1;
  uint64_t last_number_ = 0;
  States current_{State()};
  std::vector<States> history_{current_};
  std::vector<std::string> contradictions_;
};

}  // namespace cairn::cluster_test

// Decides whether the history of one register (one block of a file, say) is linearizable: whether its writes
// and reads, which overlapped in time, could have happened one after the other, each between its begin and
// its end.
//
//   RegisterHistory history;
//   history.Write(7, {10, 20});   history.Read(7, {15, 30});   history.Read(0, {31, 40});
//   history.Check()  ->  "the read of 0 at [31, 40] comes after ..."   (0 is what was there before)
//
// Every write has a value of its own, so the check is the zone criterion of Gibbons and Korach (Testing
// Shared Memories, 1997): O(n log n), no search. A write that failed may have happened at any time after its
// begin, or never. Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cairn::cluster_test {

struct Interval {
  int64_t begin = 0;
  int64_t end = 0;
};

class RegisterHistory {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  // Precondition: each value is written once; 0 is the initial value and is never written.
  void Write(uint64_t value, Interval when) { writes_[value] = when; }
  void FailedWrite(uint64_t value, int64_t begin) { writes_[value] = {begin, kNever}; }
  void Read(uint64_t value, Interval when) { reads_[value].push_back(when); }

  size_t size() const;
  // Empty when it is linearizable; else what contradicts what.
  std::string Check() const;

 private:
  std::map<uint64_t, Interval> writes_;
  std::map<uint64_t, std::vector<Interval>> reads_;
};

}  // namespace cairn::cluster_test

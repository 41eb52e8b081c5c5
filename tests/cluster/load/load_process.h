// Speaks with a load generator (power_load.cc, stream_load.cc) over its standard input and output.
//
// Thread-safety: none.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace cairn::cluster_test {

class LoadProcess {
 public:
  // Starts `program` of the build's test folder. It dies with the test.
  LoadProcess(const std::string& program, const std::vector<std::string>& arguments);
  ~LoadProcess();
  LoadProcess(const LoadProcess&) = delete;
  LoadProcess& operator=(const LoadProcess&) = delete;

  // Sends one line and answers with the reply, without the last newline; "bad N" brings N more lines along.
  // "timeout" when there is none within `timeout_ms`.
  std::string Say(const std::string& line, int64_t timeout_ms = 120'000);
  void Send(const std::string& line);
  std::string Receive(int64_t timeout_ms);

 private:
  bool ReadLine(int64_t deadline_ms, std::string* line);
  pid_t pid_ = 0;
  int in_ = -1;
  int out_ = -1;
  std::string buffer_;
};

}  // namespace cairn::cluster_test

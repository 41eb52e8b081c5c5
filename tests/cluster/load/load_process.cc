#include "tests/cluster/load/load_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/cluster/harness.h"

namespace cairn::cluster_test {

LoadProcess::LoadProcess(const std::string& program, const std::vector<std::string>& arguments) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) return;
  const std::string path = std::string(CAIRN_TEST_DIR) + "/" + program;
  pid_ = fork();
  if (pid_ == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::vector<char*> argv{const_cast<char*>(path.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    std::perror(argv[0]);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  in_ = in[1];
  out_ = out[0];
}

LoadProcess::~LoadProcess() {
  if (pid_ > 0) kill(pid_, SIGKILL);
  if (in_ >= 0) close(in_);
  if (out_ >= 0) close(out_);
  // Not waited for without end: a thread of it may hang in a mount that goes away only after this.
  for (int i = 0; pid_ > 0 && i < 100 && waitpid(pid_, nullptr, WNOHANG) == 0; ++i) usleep(20'000);
}

void LoadProcess::Send(const std::string& line) {
  const std::string text = line + "\n";
  (void)!write(in_, text.data(), text.size());
}

bool LoadProcess::ReadLine(int64_t deadline_ms, std::string* line) {
  for (;;) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      *line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return true;
    }
    const int64_t left = deadline_ms - NowMillis();
    pollfd fd{out_, POLLIN, 0};
    if (left <= 0 || poll(&fd, 1, static_cast<int>(left)) <= 0) return false;
    char chunk[4096];
    const ssize_t n = read(out_, chunk, sizeof chunk);
    if (n <= 0) return false;
    buffer_.append(chunk, static_cast<size_t>(n));
  }
}

std::string LoadProcess::Receive(int64_t timeout_ms) {
  const int64_t deadline = NowMillis() + timeout_ms;
  std::string reply;
  if (!ReadLine(deadline, &reply)) return "timeout";
  if (reply.starts_with("bad ")) {
    for (int i = std::atoi(reply.c_str() + 4); i > 0; --i) {
      std::string line;
      if (!ReadLine(deadline, &line)) break;
      reply += "\n" + line;
    }
  }
  return reply;
}

std::string LoadProcess::Say(const std::string& line, int64_t timeout_ms) {
  Send(line);
  return Receive(timeout_ms);
}

}  // namespace cairn::cluster_test

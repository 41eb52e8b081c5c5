#include "tests/coherence/worker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

extern char** environ;

namespace cairn::coherence_test {

Worker::Worker() {
  int to[2];
  int from[2];
  EXPECT_EQ(pipe2(to, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(from, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
  char program[] = CAIRN_COHERENCE_WORKER;
  char* arguments[] = {program, nullptr};
  EXPECT_EQ(posix_spawn(&pid_, program, &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(to[0]);
  close(from[1]);
  in_ = to[1];
  out_ = from[0];
}

Worker::~Worker() {
  EXPECT_TRUE(Kill(60'000)) << "worker " << pid_ << " does not die";
  close(in_);
  close(out_);
}

void Worker::Send(const std::string& command) {
  const std::string line = command + "\n";
  EXPECT_EQ(write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size())) << command;
}

std::string Worker::Receive(int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      const std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
    if (left.count() < 0 || poll(&ready, 1, static_cast<int>(left.count())) <= 0) return "(no answer)";
    char piece[4096];
    const ssize_t got = read(out_, piece, sizeof piece);
    if (got <= 0) return "(ended)";
    buffer_.append(piece, static_cast<size_t>(got));
  }
}

bool Worker::HasAnswer(int within_ms) {
  if (buffer_.find('\n') != std::string::npos) return true;
  pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
  return poll(&ready, 1, within_ms) > 0;
}

std::string Worker::Must(const std::string& command) {
  const std::string answer = Ask(command);
  EXPECT_TRUE(answer.starts_with("ok")) << command << ": " << answer;
  return answer.size() > 3 ? answer.substr(3) : "";
}

bool Worker::Blocks(int within_ms) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(within_ms);
  const std::string path = "/proc/" + std::to_string(pid_) + "/syscall";
  while (std::chrono::steady_clock::now() < deadline) {
    std::ifstream file(path);
    long number = -1;
    if (file >> number && (number == SYS_fcntl || number == SYS_flock)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

void Worker::Signal(int signal) const { kill(pid_, signal); }

bool Worker::Kill(int within_ms) {
  if (pid_ <= 0) return true;
  kill(pid_, SIGKILL);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(within_ms);
  while (waitpid(pid_, nullptr, WNOHANG) != pid_) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  pid_ = -1;
  return true;
}

std::string Err(int error) { return "err " + std::to_string(error); }

}  // namespace cairn::coherence_test

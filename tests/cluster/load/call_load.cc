// cairn-call-load: single calls on mounts, each in a thread of its own, so that a test can look at the cluster while one is under way;
// driven by lines on standard input, one line of answer each.
//
//   begin ID create PATH             an empty file                                        -> begun
//   begin ID write PATH BYTES SEED   made, written, fsynced, closed                       -> begun
//   begin ID hold PATH BYTES SEED    the same, but it stays open                          -> begun
//   begin ID read PATH BYTES SEED    whether it holds just that                           -> begun
//   begin ID rename FROM TO | unlink PATH | stat PATH                                     -> begun
//   result ID                        -> pending | ok | errno N | wrong content
//   drop                             closes what is held                                  -> dropped
//
// A process of its own, so that the test, which forks, holds no open file of a mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace cairn::cluster_test {
namespace {

std::mutex mu;
std::map<std::string, std::string> results;  // guarded by mu
std::vector<int> held;                       // guarded by mu

std::string Errno() { return "errno " + std::to_string(errno); }

std::string Content(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string content(bytes, '\0');
  for (char& byte : content) byte = static_cast<char>(random());
  return content;
}

std::string Write(const std::string& path, const std::string& content, bool hold) {
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return Errno();
  for (size_t at = 0; at < content.size();) {
    const ssize_t n = write(fd, content.data() + at, content.size() - at);
    if (n < 0) return Errno();
    at += static_cast<size_t>(n);
  }
  if (fsync(fd) != 0) return Errno();
  if (hold) {
    std::lock_guard lock(mu);
    held.push_back(fd);
    return "ok";
  }
  return close(fd) == 0 ? "ok" : Errno();
}

std::string Read(const std::string& path, const std::string& content) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Errno();
  std::string data(content.size() + 1, '\0');
  size_t at = 0;
  for (;;) {
    const ssize_t n = read(fd, data.data() + at, data.size() - at);
    if (n < 0) return Errno();
    if (n == 0 || (at += static_cast<size_t>(n)) == data.size()) break;
  }
  close(fd);
  data.resize(at);
  return data == content ? "ok" : "wrong content";
}

std::string Call(std::istringstream& words) {
  std::string kind, path, other;
  size_t bytes = 0;
  uint64_t seed = 0;
  words >> kind >> path;
  if (kind == "create") {
    const int fd = open(path.c_str(), O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0644);
    return fd >= 0 && close(fd) == 0 ? "ok" : Errno();
  }
  if (kind == "rename") {
    words >> other;
    return rename(path.c_str(), other.c_str()) == 0 ? "ok" : Errno();
  }
  if (kind == "unlink") return unlink(path.c_str()) == 0 ? "ok" : Errno();
  struct stat attributes {};
  if (kind == "stat") return stat(path.c_str(), &attributes) == 0 ? "ok" : Errno();
  words >> bytes >> seed;
  if (kind == "read") return Read(path, Content(bytes, seed));
  return Write(path, Content(bytes, seed), kind == "hold");
}

std::string Obey(const std::string& line) {
  std::istringstream words(line);
  std::string what, id;
  words >> what >> id;
  if (what == "begin") {
    std::string rest;
    std::getline(words, rest);
    {
      std::lock_guard lock(mu);
      results[id] = "pending";
    }
    std::thread([id, rest] {
      std::istringstream call(rest);
      const std::string result = Call(call);
      std::lock_guard lock(mu);
      results[id] = result;
    }).detach();
    return "begun";
  }
  std::lock_guard lock(mu);
  if (what == "result") return results[id];
  for (const int fd : held) close(fd);
  held.clear();
  return "dropped";
}

}  // namespace
}  // namespace cairn::cluster_test

int main() {
  std::string line;
  while (std::getline(std::cin, line)) std::cout << cairn::cluster_test::Obey(line) << std::endl;
  _exit(0);  // calls that never end are nobody's
}

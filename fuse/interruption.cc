#include "fuse/interruption.h"

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace cairn::fuse {
namespace {

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

// Signals whose default action does not end the process.
constexpr uint64_t kHarmless = Bit(SIGCHLD) | Bit(SIGCONT) | Bit(SIGURG) | Bit(SIGWINCH) | Bit(SIGSTOP) |
                               Bit(SIGTSTP) | Bit(SIGTTIN) | Bit(SIGTTOU);

uint64_t Mask(const std::string& status, const char* name) {
  const size_t at = status.find(name);
  if (at == std::string::npos) return 0;
  return std::strtoull(status.c_str() + at + std::char_traits<char>::length(name), nullptr, 16);
}

}  // namespace

bool FatalSignalIn(const std::string& status) {
  const uint64_t pending = Mask(status, "\nSigPnd:") | Mask(status, "\nShdPnd:");
  if ((pending & Bit(SIGKILL)) != 0) return true;
  const uint64_t survived =
      Mask(status, "\nSigBlk:") | Mask(status, "\nSigIgn:") | Mask(status, "\nSigCgt:") | kHarmless;
  return (pending & ~survived) != 0;
}

bool FatalSignalPending(pid_t thread) {
  std::ifstream file("/proc/" + std::to_string(thread) + "/status");
  if (!file) return true;
  std::stringstream text;
  text << file.rdbuf();
  return FatalSignalIn(text.str());
}

}  // namespace cairn::fuse

#include "cli/core/context.h"

#include <atomic>
#include <csignal>
#include <ostream>

namespace cairn::cli {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

extern "C" void OnSignal(int) { interrupted.store(true); }

}  // namespace

std::string Describe(const Status& status) {
  std::string text = status.message();
  if (text.empty()) text = std::string(StatusCodeName(status.code()));
  return text;
}

void Context::Fail(const Status& status) { FailWith(ExitCodeOf(status), Describe(status)); }

void Context::FailWith(int code, const std::string& message) {
  *err << "cairn: " << message << std::endl;
  exit_code = code;
}

void Context::Report(const Status& status) {
  if (status.code() == StatusCode::kInvalidArgument) {
    FailWith(kExitUsage, Describe(status));
  } else if (!status.ok()) {
    Fail(status);
  }
}

bool Interrupted() { return interrupted.load(); }

void InstallInterruptHandler() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  // A second signal ends the process at once. No SA_RESTART: blocking reads of standard input return.
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

}  // namespace cairn::cli

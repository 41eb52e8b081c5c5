#include "client/interrupt.h"

#include <utility>
#include <vector>

#include "client/client.h"
#include "common/check.h"

namespace cairn::client {
namespace {
// Scopes nest (a command inside a command); any of them interrupts.
thread_local std::vector<std::function<bool()>> scopes;
}  // namespace

InterruptScope::InterruptScope(std::function<bool()> interrupted) {
  scopes.push_back(std::move(interrupted));
}

InterruptScope::~InterruptScope() {
  CAIRN_CHECK(!scopes.empty(), "an InterruptScope must be destroyed by the thread that made it");
  scopes.pop_back();
}

bool ThreadInterrupted() {
  for (const auto& interrupted : scopes) {
    if (interrupted && interrupted()) return true;
  }
  return false;
}

}  // namespace cairn::client

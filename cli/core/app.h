// The whole command line. Thread-safety: one thread.
#pragma once

#include "cli/core/context.h"

namespace cairn::cli {

// Parses and runs one command; returns the exit code.
int RunCommandLine(Context& context, int argc, const char* const* argv);

}  // namespace cairn::cli

// disk list. Thread-safety: one thread.
#pragma once

#include "cli/core/context.h"

namespace cairn::cli {

void RegisterDiskCommands(CLI::App& app, Context& context);

}  // namespace cairn::cli

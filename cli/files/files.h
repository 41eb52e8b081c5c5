// The file commands, a function per source file; RegisterFileCommands (cli/core/context.h) calls them all.
#pragma once

#include "cli/core/context.h"

namespace cairn::cli {

void RegisterListCommands(CLI::App& app, Context& context);       // ls, stat, find, du, df
void RegisterChangeCommands(CLI::App& app, Context& context);     // mkdir, rmdir, rm, mv, ln, sync
void RegisterAttributeCommands(CLI::App& app, Context& context);  // touch, chmod, chown, xattr
void RegisterCopyCommands(CLI::App& app, Context& context);       // cp, cat

}  // namespace cairn::cli

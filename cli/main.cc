// `cairn`: file commands, administration, and the local cluster.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "cli/core/app.h"
#include "cli/core/context.h"

int main(int argc, char** argv) {
  cairn::cli::Context context;
  context.connect = [](const cairn::client::ClientOptions& options) {
    return cairn::client::Client::Connect(options);
  };
  context.out = &std::cout;
  context.err = &std::cerr;
  context.out_is_terminal = isatty(STDOUT_FILENO) != 0;
  context.err_is_terminal = isatty(STDERR_FILENO) != 0;
  cairn::cli::InstallInterruptHandler();
  return cairn::cli::RunCommandLine(context, argc, argv);
}

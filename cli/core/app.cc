#include "cli/core/app.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <ostream>
#include <sstream>

#include "common/command_pages.h"

namespace cairn::cli {
namespace {

constexpr char kFooter[] =
    R"(Paths of the cluster: cairn://host:port/path, or cairn:/path and /path in the default cluster (cp and mv need
cairn: for the cluster's side). The default cluster is, in this order: --master, --dir, CAIRN_MASTER, `master = host:port` in
~/.config/cairn/config or /etc/cairn/cairn.conf, the local cluster started by `cairn up`.

Exit codes: 0 done, 1 failed (also in part), 2 wrong usage, 3 cluster or quorum not reachable, 4 another cluster, server or
version, 5 something is in use, 6 a comparison or check found differences, 130 interrupted.)";

}  // namespace

int RunCommandLine(Context& context, int argc, const char* const* argv) {
  CLI::App app("Cairn, a distributed file storage system");
  app.name("cairn");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // --master may follow the command
  app.add_option("--master", context.master, "Master's address host:port (several: separated by commas)");
  app.add_option("--dir", context.directory, "Directory of the local cluster that is meant (default: that of `cairn up` without it)");
  app.add_option("--admin-token-file", context.admin_token_file,
                 "Token of administrators, which commands that change the cluster need (default: on the master's machine, that of the master)");
  app.set_version_flag("--version", std::string("cairn ") + CAIRN_VERSION);
  RegisterLocalCommands(app, context);
  RegisterFileCommands(app, context);
  RegisterPolicyCommands(app, context);
  RegisterAdminCommands(app, context);
  CLI::App* version = app.add_subcommand("version", "Version of this program");
  version->callback([&context] { *context.out << "cairn " << CAIRN_VERSION << std::endl; });
  auto topic = std::make_shared<std::string>();
  CLI::App* help = app.add_subcommand("help", "Help for cairn or for one command");
  help->add_option("command", *topic, "Command");
  if (const auto page = GeneratedPage(app, {.program = "cairn", .version = CAIRN_VERSION, .section = 1}, argc, argv)) {
    *context.out << *page << std::flush;
    return kExitOk;
  }
  try {
    app.parse(argc, argv);
    if (help->parsed()) {
      app.clear();  // otherwise it would describe the command that was given: help itself
      const auto known =
          app.get_subcommands([&topic](const CLI::App* command) { return command->get_name() == *topic; });
      if (topic->empty()) {
        *context.out << app.help() << std::flush;
      } else if (!known.empty()) {
        *context.out << known.front()->help("cairn") << std::flush;
      } else {
        context.FailWith(kExitUsage, "there is no command '" + *topic + "' (see `cairn help`)");
      }
    }
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, *context.out, *context.err);
    return code == 0 ? kExitOk : kExitUsage;
  }
  return context.exit_code;
}

}  // namespace cairn::cli

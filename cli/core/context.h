// What every command gets: where output goes, how to reach a cluster, and where it leaves its exit code.
// Thread-safety: used by the main thread; commands that start threads lock around `out` and `err` themselves.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>

#include "cli/core/exit_codes.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace cairn::cli {

using ConnectFunction =
    std::function<Result<std::unique_ptr<client::Client>>(const client::ClientOptions& options)>;

struct Context {
  ConnectFunction connect;  // production: client::Client::Connect; tests: a double
  std::ostream* out = nullptr;
  std::ostream* err = nullptr;
  bool out_is_terminal = false;
  bool err_is_terminal = false;

  // Options that all commands share.
  std::string master;     // --master host:port; empty: see FindMaster
  std::string directory;  // --dir of the local cluster; empty: DefaultLocalDirectory()
  std::string admin_token_file;  // --admin-token-file; empty: see FindAdminToken
  bool json = false;

  int exit_code = kExitOk;

  // Prints "cairn: MESSAGE" and remembers the exit code that fits.
  void Fail(const Status& status);
  void FailWith(int code, const std::string& message);
  // How a command ended: nothing to say of success; what is invalid in a request was so on the command line.
  void Report(const Status& status);
};

// "host: message (code)" as people read it.
std::string Describe(const Status& status);

// One function per command family, each in the file of that name.
void RegisterLocalCommands(CLI::App& app, Context& context);   // up, down, status, umount
void RegisterFileCommands(CLI::App& app, Context& context);    // ls, cat, cp, ...
void RegisterAdminCommands(CLI::App& app, Context& context);   // fsck, chunk, session, master
void RegisterPolicyCommands(CLI::App& app, Context& context);  // policy

// True after SIGINT or SIGTERM; commands end at the next opportunity and clean up.
bool Interrupted();
void InstallInterruptHandler();

}  // namespace cairn::cli

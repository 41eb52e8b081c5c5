// Manual page and shell completion of a program, made from the same definitions that parse its command line.
//
//   CLI::App app(...);  app.add_option(...);
//   if (const auto page = GeneratedPage(app, argc, argv)) { std::cout << *page; return 0; }
//   app.parse(argc, argv);
//
// Packagers call `PROGRAM --generate man` and `PROGRAM --generate bash-completion`.
// Formats: man-pages(7) in the macros of groff_man(7); completion for bash's `complete -F`.
// Thread-safety: pure functions of the app.
#pragma once

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace cairn {

struct PageOptions {
  std::string program;  // "cairn-master"
  std::string version;
  int section = 8;  // of the manual: 1 user commands, 8 administration
};

// The page asked for by `--generate man|bash-completion` as the first argument; nothing when that was not
// asked for.
std::optional<std::string> GeneratedPage(const CLI::App& app, const PageOptions& options, int argc,
                                         const char* const* argv);

std::string ManPage(const CLI::App& app, const PageOptions& options);
std::string BashCompletion(const CLI::App& app, const PageOptions& options);

}  // namespace cairn

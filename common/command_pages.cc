#include "common/command_pages.h"

#include <CLI/CLI.hpp>
#include <string_view>
#include <vector>

namespace cairn {
namespace {

// Text for groff: dashes that can be copied, no line that begins with a request.
std::string Escaped(std::string_view text) {
  std::string result;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) result += "\\&";
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
    line_start = c == '\n';
  }
  return result;
}

std::vector<const CLI::App*> Commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_name().empty(); });
}

bool IsShown(const CLI::Option& option) { return !option.get_group().empty(); }

std::vector<const CLI::Option*> Options(const CLI::App& app, bool positional) {
  return app.get_options([positional](const CLI::Option* option) {
    return IsShown(*option) && option->nonpositional() != positional;
  });
}

std::string Metavariable(const CLI::Option& option) {
  if (option.get_type_size() == 0 || option.get_expected_max() == 0) return {};  // a flag
  std::string type = option.get_type_name();
  type = type.substr(0, type.find(':'));  // the rest describes what is accepted, for --help
  return type.empty() ? "VALUE" : type;
}

std::string Synopsis(const CLI::App& app, const std::string& command) {
  std::string line = ".B " + Escaped(command) + "\n";
  if (!Options(app, false).empty()) line += "[\\fIOPTION\\fR]...\n";
  for (const CLI::Option* argument : Options(app, true)) {
    const bool many = argument->get_expected_max() > 1;
    const std::string name = "\\fI" + Escaped(argument->get_name(true)) + "\\fR" + (many ? "..." : "");
    line += argument->get_required() ? name + "\n" : "[" + name + "]\n";
  }
  if (!Commands(app).empty()) line += "\\fICOMMAND\\fR ...\n";
  return line;
}

void AppendOptions(const CLI::App& app, std::string& page) {
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : Options(app, positional)) {
      if (option == app.get_help_ptr() && app.get_parent() != nullptr) continue;  // said once
      page += ".TP\n";
      if (positional) {
        page += "\\fI" + Escaped(option->get_name(true)) + "\\fR\n";
      } else {
        std::string names;
        for (const std::string& name : option->get_snames()) names += (names.empty() ? "-" : ", -") + name;
        for (const std::string& name : option->get_lnames()) names += (names.empty() ? "--" : ", --") + name;
        page += "\\fB" + Escaped(names) + "\\fR";
        if (const std::string value = Metavariable(*option); !value.empty())
          page += " \\fI" + Escaped(value) + "\\fR";
        page += "\n";
      }
      page += Escaped(option->get_description());
      if (!option->get_default_str().empty())
        page += " (default: " + Escaped(option->get_default_str()) + ")";
      if (const std::string variable = option->get_envname(); !variable.empty()) {
        page += " (environment: " + Escaped(variable) + ")";
      }
      page += "\n";
    }
  }
}

void AppendCommand(const CLI::App& app, const std::string& path, std::string& page) {
  for (const CLI::App* command : Commands(app)) {
    const std::string name = path + " " + command->get_name();
    if (Commands(*command).empty()) {
      page += ".SS \"" + Escaped(name) + "\"\n" + Synopsis(*command, name) + ".PP\n" +
              Escaped(command->get_description()) + "\n";
      std::string options;
      AppendOptions(*command, options);
      page += options;
    } else {
      AppendCommand(*command, name, page);
    }
  }
}

void AppendWords(const CLI::App& app, const std::string& path, std::string& cases) {
  std::string words, values;
  for (const CLI::App* command : Commands(app)) words += (words.empty() ? "" : " ") + command->get_name();
  std::string flags;
  for (const CLI::Option* option : Options(app, false)) {
    std::string names;
    for (const std::string& name : option->get_lnames()) {
      flags += (flags.empty() ? "--" : " --") + name;
      names += (names.empty() ? "--" : " --") + name;
    }
    for (const std::string& name : option->get_snames()) names += (names.empty() ? "-" : " -") + name;
    if (!Metavariable(*option).empty()) values += (values.empty() ? "" : " ") + names;
  }
  const bool files = !Options(app, true).empty() || Commands(app).empty();
  cases += "    '" + path + "') words='" + words + "' flags='" + flags + "' values='" + values +
           "' files=" + (files ? "1" : "") + " ;;\n";
  for (const CLI::App* command : Commands(app))
    AppendWords(*command, path + " " + command->get_name(), cases);
}

}  // namespace

std::string ManPage(const CLI::App& app, const PageOptions& options) {
  std::string upper = options.program;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string page = ".TH " + Escaped(upper) + " " + std::to_string(options.section) + " \"\" \"Cairn " +
                     Escaped(options.version) + "\" \"Cairn\"\n.ad l\n";
  page += ".SH NAME\n" + Escaped(options.program) + " \\- " + Escaped(app.get_description()) + "\n";
  page += ".SH SYNOPSIS\n" + Synopsis(app, options.program);
  page += ".SH OPTIONS\n";
  AppendOptions(app, page);
  if (!Commands(app).empty()) {
    page += ".SH COMMANDS\n";
    AppendCommand(app, options.program, page);
  }
  if (const std::string footer = app.get_footer(); !footer.empty())
    page += ".SH NOTES\n.nf\n" + Escaped(footer) + "\n.fi\n";
  page += ".SH \"SEE ALSO\"\n";
  std::string others;
  for (const auto& [name, section] :
       {std::pair{"cairn", 1}, {"cairn-master", 8}, {"cairn-chunkserver", 8}, {"cairn-mount", 8}}) {
    if (options.program != name)
      others += (others.empty() ? "" : ", ") + Escaped(name) + "(" + std::to_string(section) + ")";
  }
  return page + others + "\n";
}

std::string BashCompletion(const CLI::App& app, const PageOptions& options) {
  std::string function = "_" + options.program;
  for (char& c : function) {
    if (c == '-') c = '_';
  }
  std::string cases;
  AppendWords(app, options.program, cases);
  return "# bash completion for " + options.program + "; generated from its command line definitions\n" +
         function + R"(_words() {
  # Sets what may follow the command path "$1".
  case "$1" in
)" + cases +
         R"(    *) return 1 ;;
  esac
}
)" + function +
         R"(() {
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
  local path=")" +
         options.program + R"(" words flags values files word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    case "$word" in -*) continue ;; esac
    )" + function +
         R"(_words "$path" || return
    case " $words " in *" $word "*) path="$path $word" ;; esac
  done
  )" + function +
         R"(_words "$path" || return
  COMPREPLY=()
  case " $values " in
    *" $previous "*) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  case "$current" in
    -*) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current") ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
      if [ -n "$files" ]; then mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current"); fi ;;
  esac
}
complete -o filenames -F )" +
         function + " " + options.program + "\n";
}

std::optional<std::string> GeneratedPage(const CLI::App& app, const PageOptions& options, int argc,
                                         const char* const* argv) {
  if (argc != 3 || std::string_view(argv[1]) != "--generate") return std::nullopt;
  if (std::string_view(argv[2]) == "man") return ManPage(app, options);
  if (std::string_view(argv[2]) == "bash-completion") return BashCompletion(app, options);
  return std::nullopt;
}

}  // namespace cairn

// Logging of all daemons: one line per event, to stderr (journald, terminals) or to a file that is rotated.
//
//   CAIRN_LOG(Info, "chunk {} sealed at {}", ToString(id), ToString(stamp));
//
// The level is checked before the arguments are formatted. spdlog stays out of this header so that it is
// cheap to include. Thread-safety: SetUpLogging once at the start of main; everything else from any thread.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "common/status.h"

namespace cairn {

enum class LogLevel : uint8_t { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

struct LogOptions {
  std::string program;                  // first word of each line, for example "cs2"
  std::string file;                     // empty: stderr
  std::string level = "info";           // debug, info, warning, error
  uint64_t rotate_bytes = 32ull << 20;  // a file is rotated when it gets this large
  uint32_t rotate_files = 5;            // rotated files kept
};

// kInvalidArgument for an unknown level, otherwise the error of opening the file.
Status SetUpLogging(const LogOptions& options);
// Changes the level of the running process. False for an unknown name.
bool SetLogLevel(std::string_view name);
bool LogEnabled(LogLevel level);
void LogLine(LogLevel level, std::string_view text);
void FlushLog();

}  // namespace cairn

#define CAIRN_LOG(level, ...)                                                    \
  do {                                                                           \
    if (::cairn::LogEnabled(::cairn::LogLevel::k##level))                        \
      ::cairn::LogLine(::cairn::LogLevel::k##level, ::fmt::format(__VA_ARGS__)); \
  } while (false)

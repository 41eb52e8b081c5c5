#include "common/log.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <mutex>

namespace cairn {
namespace {

// Until SetUpLogging ran, and in tests, warnings and errors go to stderr.
std::atomic<int> g_level{static_cast<int>(LogLevel::kWarning)};

std::shared_ptr<spdlog::logger>& Logger() {
  static auto* logger = new std::shared_ptr<spdlog::logger>(
      std::make_shared<spdlog::logger>("cairn", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  return *logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

bool SetLogLevel(std::string_view name) {
  constexpr std::pair<std::string_view, LogLevel> kLevels[] = {{"debug", LogLevel::kDebug},
                                                               {"info", LogLevel::kInfo},
                                                               {"warning", LogLevel::kWarning},
                                                               {"error", LogLevel::kError}};
  for (const auto& [text, level] : kLevels) {
    if (text != name) continue;
    g_level.store(static_cast<int>(level), std::memory_order_relaxed);
    return true;
  }
  return false;
}

Status SetUpLogging(const LogOptions& options) {
  if (!SetLogLevel(options.level)) {
    return {StatusCode::kInvalidArgument,
            "log level '" + options.level + "' is not one of debug, info, warning, error"};
  }
  try {
    spdlog::sink_ptr sink;
    if (options.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.file, options.rotate_bytes,
                                                                    options.rotate_files);
    }
    auto logger = std::make_shared<spdlog::logger>(options.program, sink);
    logger->set_level(spdlog::level::debug);  // filtered by g_level before formatting
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %n[%P] %l: %v");
    // Debug lines too, if there are any: whoever turned them on is looking at the file now.
    logger->flush_on(spdlog::level::debug);
    Logger() = std::move(logger);
  } catch (const spdlog::spdlog_ex& error) {
    return {StatusCode::kIoError, std::string("log file cannot be opened: ") + error.what()};
  }
  return Status::Ok();
}

bool LogEnabled(LogLevel level) { return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed); }

void LogLine(LogLevel level, std::string_view text) {
  Logger()->log(ToSpdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

void FlushLog() { Logger()->flush(); }

}  // namespace cairn

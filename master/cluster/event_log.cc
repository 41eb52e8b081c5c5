#include "master/cluster/event_log.h"

#include "common/log.h"
#include "master/core/core.h"

namespace cairn::master {
namespace {

constexpr int64_t kWindowNanos = 10 * kNanosPerSecond;
constexpr uint32_t kPerWindow = 20;

const char* NameOf(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "info";
}

}  // namespace

void EventLog::Add(Severity severity, const std::string& kind, const std::string& text,
                   const EventAbout& about) {
  Window& window = windows_[kind];
  if (core_.now() - window.began_ns >= kWindowNanos && window.left_out == 0) window = {core_.now(), 0, 0};
  if (window.recorded >= kPerWindow) {
    ++window.left_out;
    return;
  }
  ++window.recorded;
  Record(severity, kind, text, about);
}

void EventLog::Tick() {
  for (auto it = windows_.begin(); it != windows_.end();) {
    if (core_.now() - it->second.began_ns < kWindowNanos) {
      ++it;
      continue;
    }
    const auto [kind, window] = *it;
    it = windows_.erase(it);
    if (window.left_out > 0) {
      Record(Severity::kWarning, kind,
             std::to_string(window.left_out) + " more of this kind within " +
                 FormatSeconds(core_.now() - window.began_ns),
             {});
    }
  }
}

void EventLog::Record(Severity severity, const std::string& kind, const std::string& text,
                      const EventAbout& about) {
  switch (severity) {
    case Severity::kInfo:
      CAIRN_LOG(Info, "event {}: {}", kind, text);
      break;
    case Severity::kWarning:
      CAIRN_LOG(Warning, "event {}: {}", kind, text);
      break;
    case Severity::kError:
      CAIRN_LOG(Error, "event {}: {}", kind, text);
      break;
  }
  proto::LogCommand command;
  proto::EventRecord* event = command.mutable_record_event()->mutable_event();
  event->set_severity(NameOf(severity));
  event->set_kind(kind);
  event->set_text(text);
  event->set_server(about.server.value());
  event->set_chunk(about.chunk.value());
  event->set_inode(about.inode.value());
  event->set_operator_(about.by);
  core_.Apply(command);
}

}  // namespace cairn::master

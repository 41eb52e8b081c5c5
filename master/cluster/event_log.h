// What the cluster did and why, for `cairn events`: written through the state machine, so it survives
// restarts.
//
// A storm of one kind (thousands of chunks, a flapping server) must neither push everything else out of the
// bounded log nor slow the master down: of each kind only so many are recorded per interval, and the rest is
// counted in one further event.
//
// Thread-safety: none; owned by the core thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/ids.h"

namespace cairn::master {

class Core;

enum class Severity : uint8_t { kInfo, kWarning, kError };

struct EventAbout {
  ServerId server;
  ChunkId chunk;
  InodeId inode;
  std::string by;  // the operator who asked for it
};

class EventLog {
 public:
  explicit EventLog(Core& core) : core_(core) {}

  // `kind`: stable words with dots, for programs ("server.down"). Also written to the log file.
  void Add(Severity severity, const std::string& kind, const std::string& text, const EventAbout& about = {});
  // Tells how many events were left out, once their interval is over.
  void Tick();

 private:
  struct Window {
    int64_t began_ns = 0;
    uint32_t recorded = 0;
    uint64_t left_out = 0;
  };
  void Record(Severity severity, const std::string& kind, const std::string& text, const EventAbout& about);

  Core& core_;
  std::map<std::string, Window> windows_;
};

}  // namespace cairn::master

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/core/config.h"
#include "cli/local/cluster.h"
#include "cli/local/up.h"
#include "fuse/mountpoint.h"

namespace cairn::cli {
namespace {

struct PartState {
  LocalPart part;
  pid_t pid = 0;
  std::string state;  // "running", "stopped", "dead mount", "hanging"
};

std::vector<PartState> LocalStates(LocalCluster& cluster) {
  std::vector<PartState> states;
  for (const LocalPart& part : cluster.layout().parts()) {
    PartState state{.part = part, .pid = cluster.Running(part)};
    state.state = state.pid != 0 ? "running" : "stopped";
    if (part.kind == PartKind::kMount) {
      const auto probe = fuse::ProbeMount(part.mountpoint, 3'000);
      if (probe.ok() && *probe == fuse::MountState::kDead) state.state = "dead (cairn up mounts it again)";
      if (probe.ok() && *probe == fuse::MountState::kHanging) state.state = "hanging";
    }
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace

Status RunStatus(Context& context) {
  // The parts of the local cluster, if it is the one that is meant.
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  auto layout = LocalLayout::Load(LocalDirectory(context));
  std::vector<PartState> parts;
  std::string directory;
  if (layout.ok() && layout->Find("master") != nullptr &&
      masters.front() == layout->Find("master")->address) {
    directory = layout->directory();
    LocalCluster cluster(context, *std::move(layout));
    parts = LocalStates(cluster);
  }
  AdminClient admin(masters);
  const auto status = admin.ClusterStatus();
  if (context.json) {
    nlohmann::json json;
    if (status.ok()) {
      json = ToJson(*status);
    } else {
      json["health"] = "unreachable";
      json["reasons"] = {status.status().message()};
    }
    json["masters"] = masters;
    if (!directory.empty()) json["local"]["directory"] = directory;
    for (const PartState& part : parts) {
      json["local"]["parts"].push_back({{"name", part.part.name},
                                        {"pid", part.pid},
                                        {"state", part.state},
                                        {"address", part.part.address},
                                        {"mountpoint", part.part.mountpoint}});
    }
    *context.out << json.dump(2) << std::endl;
  } else {
    for (const PartState& part : parts) {
      *context.out << fmt::format(
          "{:<8} {:<9} {}{}\n", part.part.name, part.state,
          part.part.kind == PartKind::kMount ? part.part.mountpoint : part.part.address,
          part.pid != 0 ? fmt::format("  (pid {})", part.pid) : "");
    }
    if (!directory.empty()) *context.out << "Local cluster in " << directory << "\n\n";
    if (status.ok()) *context.out << StatusText(*status);
    *context.out << std::flush;
  }
  if (!status.ok()) return status.status();
  return Status::Ok();
}

Status WatchStatus(Context& context) {
  Status last;
  while (!Interrupted()) {
    if (context.out_is_terminal) *context.out << "\x1b[H\x1b[2J";
    last = RunStatus(context);
    // An absent master is part of what is watched: it may come back.
    if (!last.ok() && last.code() != StatusCode::kUnavailable && last.code() != StatusCode::kTimeout)
      return last;
    if (!last.ok() && !context.json) *context.out << Describe(last) << std::endl;
    for (int i = 0; i < 20 && !Interrupted(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return Status::Ok();
}

}  // namespace cairn::cli

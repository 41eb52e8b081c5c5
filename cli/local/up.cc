#include "cli/local/up.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <vector>

#include "cli/admin/admin_client.h"
#include "cli/core/config.h"
#include "cli/core/policy_text.h"
#include "cli/local/cluster.h"
#include "common/net/address.h"

namespace cairn::cli {
namespace {

constexpr int kDefaultChunkservers = 3;
constexpr int kMaxChunkservers = 64;

Status Invalid(const std::string& message) { return {StatusCode::kInvalidArgument, message}; }

Status ApplyConsole(const std::string& wanted, LocalLayout& layout) {
  layout.console = wanted != "off";
  if (wanted == "off") return Status::Ok();
  std::string& address = layout.Find("master")->console;
  address.clear();  // a free port
  if (wanted == "on") return Status::Ok();
  const auto where = net::ParseHostPort(wanted);
  if (!where.ok()) return Invalid("--console is on, off or host:port: " + where.status().message());
  address = where->ToString();
  return Status::Ok();
}

// Where the console is, or what to do to have it.
void TellConsole(Context& context, const LocalLayout& layout, const LocalPart& master, bool changed) {
  std::string url;
  std::getline(std::ifstream(layout.ConsoleUrlFile()), url);
  const bool as_wanted = !url.empty() == layout.console && (url.empty() || master.console.empty() || url == "http://" + master.console + "/");
  if (changed && !as_wanted) {
    *context.out << "The console changes when the master starts the next time: cairn down --only master; cairn up" << std::endl;
  } else if (!url.empty()) {
    *context.out << fmt::format("Console: {} (changes ask for the token in {})", url, layout.AdminTokenFile()) << std::endl;
  }
}

// Brings the remembered layout in line with the options.
Status ApplyOptions(const UpOptions& options, bool is_new, LocalLayout& layout) {
  if (is_new) layout.Add({.name = "master"});
  int wanted = options.chunkservers;
  if (wanted == 0 && is_new) wanted = kDefaultChunkservers;
  if (options.only.starts_with("cs")) {
    const int number = ChunkserverNumber(options.only);
    if (number == 0 || number > layout.chunkservers() + 1) {
      return Invalid("there is no part '" + options.only + "' (the next new chunkserver would be cs" +
                     std::to_string(layout.chunkservers() + 1) + ")");
    }
    if (number > layout.chunkservers()) wanted = std::max(wanted, number);  // the next new one
  } else if (!options.only.empty() && options.only != "master" && options.only != "mount") {
    return Invalid("unknown part '" + options.only + "' (master, cs1, cs2, ..., mount)");
  }
  if (wanted < 0 || wanted > kMaxChunkservers)
    return Invalid("--chunkservers is 1 to " + std::to_string(kMaxChunkservers));
  if (wanted != 0 && wanted < layout.chunkservers()) {
    return Invalid(
        fmt::format("this cluster has {} chunkservers; they hold data and cannot be removed by `cairn up` "
                    "(stop one with `cairn down --only csN`)",
                    layout.chunkservers()));
  }
  for (int n = layout.chunkservers() + 1; n <= wanted; ++n) layout.Add({.name = "cs" + std::to_string(n)});

  if (!options.master_flags.empty()) layout.master_flags = options.master_flags;
  if (!options.chunkserver_flags.empty()) layout.chunkserver_flags = options.chunkserver_flags;
  if (!options.mount_flags.empty()) layout.mount_flags = options.mount_flags;
  layout.metrics |= options.metrics;
  if (!options.console.empty()) CAIRN_RETURN_IF_ERROR(ApplyConsole(options.console, layout));
  if (options.no_mount) layout.Remove("mount");
  if (!options.mountpoint.empty()) {
    std::error_code error;
    std::string path =
        std::filesystem::weakly_canonical(std::filesystem::absolute(options.mountpoint), error).string();
    if (error) path = std::filesystem::absolute(options.mountpoint).lexically_normal().string();
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (LocalPart* mount = layout.Find("mount"); mount != nullptr) {
      mount->mountpoint = path;
    } else {
      layout.Add({.name = "mount", .mountpoint = path});
    }
  }
  if (options.only == "mount" && layout.Find("mount") == nullptr)
    return Invalid("no mount point is known: give --mount");
  return Status::Ok();
}

// Starts those of `parts` that do not run, all at once, then waits for each.
Status StartAndAwait(LocalCluster& cluster, const std::vector<LocalPart*>& parts) {
  Status first_error;
  for (LocalPart* part : parts) {
    if (const pid_t pid = cluster.Running(*part); pid != 0) {
      cluster.Progress(part->name, fmt::format("already running (pid {})", pid));
      continue;
    }
    cluster.Progress(part->name, "starting");
    const Status started = cluster.Start(*part);
    if (!started.ok() && first_error.ok()) first_error = started.WithContext(part->name);
  }
  for (LocalPart* part : parts) {
    const Status ready = cluster.Await(*part);
    if (!ready.ok() && first_error.ok()) first_error = ready;
  }
  return first_error;
}

// A mount or chunkserver that follows a master which moved to another port would wait for the old one for
// ever.
Status StopFollowers(LocalCluster& cluster) {
  for (auto part = cluster.layout().parts().rbegin(); part != cluster.layout().parts().rend(); ++part) {
    if (part->kind == PartKind::kMaster || cluster.Running(*part) == 0) continue;
    cluster.Progress(part->name, "is restarted, because the master's address changed");
    CAIRN_RETURN_IF_ERROR(cluster.Stop(*part, true));
  }
  return Status::Ok();
}

}  // namespace

Status RunUp(Context& context, const UpOptions& options) {
  const std::string directory = LocalDirectory(context);
  auto loaded = LocalLayout::Load(directory);
  const bool is_new = loaded.code() == StatusCode::kNotFound;
  if (!loaded.ok() && !is_new) return loaded.status();
  std::error_code error;
  LocalLayout layout =
      is_new ? LocalLayout(std::filesystem::absolute(directory, error).lexically_normal().string())
             : *std::move(loaded);
  if (!options.policy.empty())
    CAIRN_RETURN_IF_ERROR(ParsePolicy(options.policy, {}).status());  // before anything is started
  const LocalPart* mount_before = layout.Find("mount");
  const std::string old_mountpoint = mount_before == nullptr ? "" : mount_before->mountpoint;
  const LocalPart old_mount = mount_before == nullptr ? LocalPart{} : *mount_before;
  CAIRN_RETURN_IF_ERROR(ApplyOptions(options, is_new, layout));
  const LocalPart* mount_after = layout.Find("mount");
  const bool mount_moved =
      !old_mountpoint.empty() && (mount_after == nullptr || mount_after->mountpoint != old_mountpoint);

  CAIRN_RETURN_IF_ERROR(layout.Save());
  LocalCluster cluster(context, std::move(layout));
  CAIRN_RETURN_IF_ERROR(cluster.Lock());
  if (mount_moved) CAIRN_RETURN_IF_ERROR(cluster.Stop(old_mount, false));

  const auto selected = [&](const std::string& name) { return options.only.empty() || options.only == name; };
  LocalPart* master = cluster.layout().Find("master");
  if (selected("master")) {
    const std::string old_address = master->address;
    CAIRN_RETURN_IF_ERROR(StartAndAwait(cluster, {master}));
    if (!old_address.empty() && old_address != master->address) CAIRN_RETURN_IF_ERROR(StopFollowers(cluster));
  }
  std::vector<LocalPart*> chunkservers;
  for (const LocalPart& part : cluster.layout().parts()) {
    if (part.kind == PartKind::kChunkserver && selected(part.name)) {
      chunkservers.push_back(cluster.layout().Find(part.name));
    }
  }
  // New ones register one after the other, so that the master numbers them as they are named here.
  std::vector<LocalPart*> known;
  for (LocalPart* part : chunkservers) {
    if (std::filesystem::exists(cluster.layout().DataDirectory(part->name)) ||
        cluster.Running(*master) == 0) {
      known.push_back(part);
      continue;
    }
    CAIRN_RETURN_IF_ERROR(StartAndAwait(cluster, {part}));
    CAIRN_RETURN_IF_ERROR(cluster.AwaitChunkservers());
  }
  CAIRN_RETURN_IF_ERROR(StartAndAwait(cluster, known));
  if (cluster.Running(*master) != 0) {
    if (!chunkservers.empty()) CAIRN_RETURN_IF_ERROR(cluster.AwaitChunkservers());
    if (options.only.empty() || !options.policy.empty())
      CAIRN_RETURN_IF_ERROR(cluster.InitializeRoot(options.policy));
  }
  LocalPart* mount = cluster.layout().Find("mount");
  if (mount != nullptr && selected("mount")) CAIRN_RETURN_IF_ERROR(StartAndAwait(cluster, {mount}));
  if (cluster.layout().metrics) CAIRN_RETURN_IF_ERROR(cluster.layout().SaveMetricsTargets());
  if (!context.json) {
    *context.out << fmt::format("Cluster in {} is up; master {}{}", cluster.layout().directory(),
                                master->address, mount != nullptr ? ", mounted at " + mount->mountpoint : "")
                 << std::endl;
    if (cluster.Running(*master) != 0) TellConsole(context, cluster.layout(), *master, !options.console.empty());
  }
  return Status::Ok();
}

}  // namespace cairn::cli

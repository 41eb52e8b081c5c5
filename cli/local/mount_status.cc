// mount status: what the mounts of this machine are doing.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/core/format.h"
#include "cli/local/up.h"
#include "fuse/mountpoint.h"

namespace cairn::cli {
namespace {

constexpr int kAnswerMs = 2'000;

// What the mount's process says; kUnavailable when it is gone, kTimeout when it does not answer.
Result<std::string> AskMount(const std::string& device) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ErrnoStatus(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = fuse::StatusSocketName(device);
  std::memcpy(address.sun_path, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    const int error = errno;
    close(fd);
    if (error == EAGAIN) return Status(StatusCode::kTimeout, "its process does not answer");
    return Status(StatusCode::kUnavailable, "its process is gone (`cairn umount` takes the mount away)");
  }
  std::string text;
  char piece[8192];
  while (true) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, kAnswerMs) <= 0) {
      close(fd);
      return Status(StatusCode::kTimeout, "its process does not answer (stopped?)");
    }
    const ssize_t got = read(fd, piece, sizeof piece);
    if (got <= 0) break;
    text.append(piece, static_cast<size_t>(got));
  }
  close(fd);
  return text;
}

void PrintMount(Context& context, const nlohmann::json& mount) {
  std::ostream& out = *context.out;
  out << mount["mountpoint"].get<std::string>() << ": " << mount["state"].get<std::string>() << "\n";
  if (!mount.contains("pid")) return;
  out << fmt::format("  process {}, {} leases, {} not yet on replicas, {} locks held, {} waited for\n",
                     mount["pid"].get<int64_t>(), mount["leases"].get<uint64_t>(),
                     HumanBytes(mount["dirty_bytes"].get<uint64_t>()), mount["locks_held"].get<uint64_t>(),
                     mount["locks_waited_for"].get<uint64_t>());
  for (const auto& server : mount["servers_down"]) out << "  " << server.get<std::string>() << " is down\n";
  for (const auto& request : mount["waiting"]) {
    if (request["ms"].get<int64_t>() < 1'000) continue;
    out << fmt::format("  waits for {:.1f} s: {} of process {}\n", request["ms"].get<double>() / 1000,
                       request["operation"].get<std::string>(), request["thread"].get<int64_t>());
  }
}

}  // namespace

Status RunMountStatus(Context& context, const std::string& path) {
  std::vector<fuse::MountInfo> mounts;
  if (path.empty()) {
    mounts = fuse::AllMounts();
  } else {
    // The directory itself is not touched: it may be on the mount that hangs.
    std::error_code error;
    std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
    while (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
    const auto mount = fuse::FindMountAbove(absolute);
    if (!mount || mount->type != fuse::kMountType) {
      return {StatusCode::kInvalidArgument, path + " is not on a mount of Cairn"};
    }
    mounts.push_back(*mount);
  }
  nlohmann::json all = nlohmann::json::array();
  bool well = true;
  for (const fuse::MountInfo& mount : mounts) {
    const auto answer = AskMount(mount.device);
    nlohmann::json one;
    if (answer.ok()) one = nlohmann::json::parse(*answer, nullptr, false);
    if (!one.is_object()) {
      one = {{"state", answer.ok() ? "its answer is not understood" : answer.status().message()}};
    }
    one["mountpoint"] = mount.mountpoint;
    one["source"] = mount.source;
    well = well && one["state"] == "connected";
    all.push_back(std::move(one));
  }
  if (context.json) {
    *context.out << all.dump(2) << std::endl;
  } else if (all.empty()) {
    *context.out << "Nothing of Cairn is mounted here." << std::endl;
  } else {
    for (const auto& one : all) PrintMount(context, one);
    *context.out << std::flush;
  }
  if (!well) context.exit_code = kExitUnavailable;
  return Status::Ok();
}

}  // namespace cairn::cli

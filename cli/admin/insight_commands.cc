// top, file explain, support-bundle.
#include <fmt/format.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/format.h"
#include "cli/core/policy_text.h"
#include "cli/local/layout.h"

namespace cairn::cli {
namespace {

constexpr size_t kMaxRows = 15;
constexpr uint64_t kChunksOfFile = 64;
constexpr uint64_t kLogTailBytes = 1 << 20;

struct TopOptions {
  int rounds = 0;  // 0: until Ctrl-C
  double seconds = 2;
};

struct Sample {
  proto::StatusResponse status;
  proto::SessionsResponse sessions;
  std::chrono::steady_clock::time_point at;
};

Result<Sample> TakeSample(AdminClient& admin) {
  Sample sample;
  CAIRN_ASSIGN_OR_RETURN(sample.status, admin.ClusterStatus());
  CAIRN_ASSIGN_OR_RETURN(sample.sessions, admin.Sessions({}));
  sample.at = std::chrono::steady_clock::now();
  return sample;
}

using Rates = std::vector<std::pair<double, std::string>>;
void SortAndCut(Rates* rates) {
  std::erase_if(*rates, [](const auto& rate) { return rate.first <= 0; });
  std::sort(rates->begin(), rates->end(), std::greater<>());
  if (rates->size() > kMaxRows) rates->resize(kMaxRows);
}

void PrintTop(Context& context, const Sample& before, const Sample& now) {
  const double seconds = std::max(0.001, std::chrono::duration<double>(now.at - before.at).count());
  Rates operations, clients;
  std::map<std::string, uint64_t> old_operations;
  for (const auto& count : before.status.operations()) old_operations[count.name()] = count.count();
  for (const auto& count : now.status.operations()) {
    const uint64_t old = old_operations[count.name()];
    operations.emplace_back(count.count() > old ? static_cast<double>(count.count() - old) / seconds : 0,
                            count.name());
  }
  std::map<uint64_t, uint64_t> old_sessions;
  for (const auto& session : before.sessions.sessions()) old_sessions[session.session()] = session.requests();
  for (const auto& session : now.sessions.sessions()) {
    const uint64_t old = old_sessions[session.session()];
    clients.emplace_back(
        session.requests() > old ? static_cast<double>(session.requests() - old) / seconds : 0,
        Printable(session.client_name()));
  }
  SortAndCut(&operations);
  SortAndCut(&clients);
  if (context.json) {
    nlohmann::json json{{"seconds", seconds},
                        {"operations", nlohmann::json::object()},
                        {"clients", nlohmann::json::array()},
                        {"servers", nlohmann::json::array()}};
    for (const auto& [rate, name] : operations) json["operations"][name] = rate;
    for (const auto& [rate, name] : clients)
      json["clients"].push_back({{"client", name}, {"requests_per_second", rate}});
    for (const auto& server : now.status.servers())
      json["servers"].push_back(
          {{"server", server.server()}, {"state", server.state()}, {"load", server.load()}});
    *context.out << json.dump() << std::endl;
    return;
  }
  if (context.out_is_terminal) *context.out << "\x1b[H\x1b[2J";
  *context.out << fmt::format("health {}, repairs {} running {} queued, {} misplaced; balance {}",
                              now.status.health(), now.status.repairs_running(), now.status.repairs_queued(),
                              now.status.chunks_misplaced(), RebalanceText(now.status.rebalance()));
  *context.out << "\nSERVERS (load of the data plane's loops)\n";
  for (const auto& server : now.status.servers()) {
    *context.out << fmt::format("  cs{:<5} {:<5} {:>5.1f} %  {:>10} chunks  {}\n", server.server(),
                                server.state(), server.load() / 10.0, server.chunks(), server.mode());
  }
  *context.out << "REQUESTS TO THE MASTER PER SECOND\n";
  for (const auto& [rate, name] : operations) *context.out << fmt::format("  {:>10.1f}  {}\n", rate, name);
  *context.out << "CLIENTS BY REQUESTS PER SECOND\n";
  for (const auto& [rate, name] : clients) *context.out << fmt::format("  {:>10.1f}  {}\n", rate, name);
  *context.out << std::flush;
}

Status Top(Context& context, const TopOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  CAIRN_ASSIGN_OR_RETURN(Sample before, TakeSample(admin));
  for (int round = 0; (options.rounds == 0 || round < options.rounds) && !Interrupted(); ++round) {
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    CAIRN_ASSIGN_OR_RETURN(Sample now, TakeSample(admin));
    PrintTop(context, before, now);
    before = std::move(now);
  }
  return Status::Ok();
}

Status ExplainFile(Context& context, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(path));
  CAIRN_ASSIGN_OR_RETURN(const auto masters, MastersOf(context, location));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
  CAIRN_ASSIGN_OR_RETURN(client::Client * session, sessions.Get(location));
  const client::Attributes& attr = entry.attr;
  nlohmann::json json{{"path", Printable(location.path)},
                      {"inode", attr.inode.value()},
                      {"type", TypeWord(attr.type)},
                      {"size", attr.size},
                      {"uid", attr.uid},
                      {"gid", attr.gid}};
  std::string text = fmt::format("{}: {}, inode {}, {}\n", Printable(location.path), TypeName(attr.type),
                                 ToString(attr.inode), HumanBytes(attr.size));

  // The policy in force, and which directory each value comes from.
  CAIRN_ASSIGN_OR_RETURN(const client::PolicyPair policy, session->GetPolicy(CurrentCaller(), attr.inode));
  text += "  policy     " + PolicyText(policy.effective) + "\n";
  json["policy"] = PolicyJson(policy.effective);
  CAIRN_ASSIGN_OR_RETURN(const auto origins, PolicyOrigins(*session, location.path));
  for (const PolicyOrigin& origin : origins) {
    text += fmt::format("    set at {}: {}\n", Printable(origin.path), PolicyText(origin.own));
    json["policy_origins"].push_back({{"path", Printable(origin.path)}, {"own", PolicyJson(origin.own)}});
  }

  AdminClient admin(masters);
  proto::SessionsRequest with_leases;
  with_leases.set_with_leases(true);
  CAIRN_ASSIGN_OR_RETURN(const auto clients, admin.Sessions(with_leases));
  for (const auto& client : clients.sessions()) {
    const auto& inodes = client.write_lease_inodes();
    if (std::find(inodes.begin(), inodes.end(), attr.inode.value()) == inodes.end()) continue;
    text += fmt::format("  written by session {} ({})\n", client.session(), Printable(client.client_name()));
    json["writer"] = {{"session", client.session()}, {"client", Printable(client.client_name())}};
  }
  auto refusal = session->GetXattr(CurrentCaller(), attr.inode, "user.cairn.error");
  if (refusal.ok()) {
    text += "  refused    " + Printable(*refusal) + "\n";
    json["last_refusal"] = Printable(*refusal);
  }
  if (attr.type == client::FileType::kRegular && attr.chunk_bytes != 0) {
    const uint64_t total = (attr.size + attr.chunk_bytes - 1) / attr.chunk_bytes;
    json["chunks_total"] = total;
    json["chunks"] = nlohmann::json::array();
    for (uint64_t index = 0; index < std::min(total, kChunksOfFile); ++index) {
      proto::ExplainChunkRequest request;
      request.set_inode(attr.inode.value());
      request.set_index(index);
      auto chunk = admin.ExplainChunk(request);
      if (!chunk.ok()) {
        if (chunk.status().code() == StatusCode::kNotFound) continue;  // a hole
        return chunk.status();
      }
      json["chunks"].push_back(ToJson(*chunk));
      text += ExplainText(*chunk);
    }
    if (total > kChunksOfFile)
      text += fmt::format("... {} more chunks (cairn chunk explain --all)\n", total - kChunksOfFile);
  }
  *context.out << (context.json ? json.dump(2) + "\n" : text) << std::flush;
  return Status::Ok();
}

Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) return {StatusCode::kIoError, "cannot write " + path};
  return Status::Ok();
}

std::string Tail(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return {};
  const auto size = static_cast<uint64_t>(in.tellg());
  in.seekg(static_cast<std::streamoff>(size > kLogTailBytes ? size - kLogTailBytes : 0));
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// State, events, sessions and the tail of the local logs. No file contents, no file names of users beyond
// what an event tells, no configuration files (they may hold secrets), no environment.
Status SupportBundle(Context& context, std::string directory) {
  if (directory.empty()) {
    char stamp[32];
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    std::strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &utc);
    directory = std::string("cairn-support-") + stamp;
  }
  std::error_code error;
  if (std::filesystem::exists(directory, error))
    return {StatusCode::kAlreadyExists, directory + " exists already"};
  if (mkdir(directory.c_str(), 0700) != 0) return ErrnoStatus(errno, "create " + directory);
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  std::string problems;
  const auto add = [&](const char* name, const auto& answer) -> Status {
    if (answer.ok()) return WriteText(directory + "/" + name, ToJson(*answer).dump(2) + "\n");
    problems += std::string(name) + ": " + answer.status().ToString() + "\n";
    return Status::Ok();
  };
  CAIRN_RETURN_IF_ERROR(add("status.json", admin.ClusterStatus()));
  proto::EventsRequest events;
  events.set_max_events(10'000);
  CAIRN_RETURN_IF_ERROR(add("events.json", admin.Events(events)));
  proto::SessionsRequest sessions;
  sessions.set_with_leases(true);
  CAIRN_RETURN_IF_ERROR(add("sessions.json", admin.Sessions(sessions)));
  proto::RebalanceRequest plan;
  plan.set_action(proto::REBALANCE_PLAN);
  CAIRN_RETURN_IF_ERROR(add("rebalance-plan.json", admin.Rebalance(plan)));
  auto layout = LocalLayout::Load(LocalDirectory(context));
  if (layout.ok()) {
    for (const LocalPart& part : layout->parts()) {
      const std::string log = Tail(layout->directory() + "/log/" + part.name + ".log");
      if (!log.empty()) CAIRN_RETURN_IF_ERROR(WriteText(directory + "/" + part.name + ".log", log));
    }
  }
  if (!problems.empty()) CAIRN_RETURN_IF_ERROR(WriteText(directory + "/problems.txt", problems));
  *context.out << "Wrote " << directory
               << " (state, events, sessions, logs; no file contents, no configuration). Read it before "
               << "you send it: logs name hosts and users." << std::endl;
  return Status::Ok();
}

}  // namespace

void RegisterInsightCommands(CLI::App& app, Context& context) {
  auto top_options = std::make_shared<TopOptions>();
  CLI::App* top = app.add_subcommand("top", "Live load by client, server and operation");
  top->add_option("-n,--rounds", top_options->rounds, "Stop after so many (default: at Ctrl-C)")
      ->check(CLI::Range(0, 1'000'000));
  top->add_option("--seconds", top_options->seconds, "Between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  top->add_flag("--json", context.json, "One JSON object per look and line");
  top->callback([&context, top_options] {
    if (const Status status = Top(context, *top_options); !status.ok()) context.Fail(status);
  });

  CLI::App* file = app.add_subcommand("file", "Files as the cluster sees them");
  file->require_subcommand(1);
  auto path = std::make_shared<std::string>();
  CLI::App* explain = file->add_subcommand(
      "explain", "Policy and where it comes from, writer, last refusal, chunks with replicas");
  explain->add_option("path", *path, "In the cluster or on a mount")->required();
  explain->add_flag("--json", context.json, "For programs");
  explain->callback([&context, path] {
    if (const Status status = ExplainFile(context, *path); !status.ok()) context.Fail(status);
  });

  auto directory = std::make_shared<std::string>();
  CLI::App* bundle =
      app.add_subcommand("support-bundle", "Collect state, events and logs for somebody who helps");
  bundle->add_option("directory", *directory, "New directory (default: cairn-support-TIME here)");
  bundle->add_option("--dir", context.directory, "Directory of the local cluster, for its logs");
  bundle->callback([&context, directory] {
    if (const Status status = SupportBundle(context, *directory); !status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli

// Metrics of real processes: what Prometheus' own tools say of the text, that values follow what is done,
// that every metric that alerts and dashboard use exists, and that a real failure fires its alert in a real
// Prometheus.
#include <gtest/gtest.h>
#include <httplib.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

const std::string kMonitoring = CAIRN_SOURCE_DIR "/scripts/monitoring/";

bool Installed(const std::string& program) {
  return RunProgram({"sh", "-c", "command -v " + program}).exit_code == 0;
}

std::string Get(const std::string& address, const std::string& path) {
  const size_t colon = address.rfind(':');
  httplib::Client client(address.substr(0, colon), std::stoi(address.substr(colon + 1)));
  const auto answer = client.Get(path.c_str());
  return answer && answer->status == 200 ? answer->body : "";
}

// Addresses of the parts' metrics by name, from the file that Prometheus reads.
std::map<std::string, std::string> Targets(const LocalCluster& cluster) {
  std::map<std::string, std::string> targets;
  std::ifstream file(cluster.directory() + "/run/metrics-targets.json");
  for (const auto& group : nlohmann::json::parse(file))
    targets[group["labels"]["part"].get<std::string>()] = group["targets"][0].get<std::string>();
  return targets;
}

// The value of a series, written as in the text; NaN when it is not there.
double Value(const std::string& text, const std::string& series) {
  const size_t at = ("\n" + text).find("\n" + series + " ");
  return at == std::string::npos ? NAN : std::stod(text.substr(at + series.size() + 1));
}

std::unique_ptr<LocalCluster> StartWithMetrics() {
  LocalCluster::Options options;
  options.up_arguments = {"--metrics"};
  return LocalCluster::Start(options);
}

TEST(Metrics, OfEveryDaemonAreCleanAndFollowWhatIsDone) {
  if (!Installed("promtool")) GTEST_SKIP() << "promtool is missing (Debian: prometheus)";
  auto cluster = StartWithMetrics();
  ASSERT_NE(cluster, nullptr);
  const auto targets = Targets(*cluster);
  ASSERT_EQ(targets.size(), 5u) << "master, three chunkservers, mount";

  constexpr size_t kBytes = 3 << 20;
  ASSERT_EQ(WriteFile(cluster->Path("file"), Pattern(1, kBytes), true), 0);
  ASSERT_EQ(ReadFile(cluster->Path("file")).size(), kBytes);
  ASSERT_EQ(Remove(cluster->Path("nothing")), ENOENT);

  std::set<std::string> known;
  std::map<std::string, std::string> texts;
  for (const auto& [part, address] : targets) {
    const std::string text = Get(address, "/metrics");
    ASSERT_NE(text, "") << part << " at " << address;
    texts[part] = text;
    const std::string file = cluster->directory() + "/" + part + ".metrics";
    std::ofstream(file) << text;
    const RunResult lint = RunProgram({"sh", "-c", "promtool check metrics < " + file});
    EXPECT_EQ(lint.exit_code, 0) << part << ": " << lint.Both();
    EXPECT_EQ(lint.Both(), "") << part;
    EXPECT_EQ(Value(text, "process_open_fds") > 3, true) << text;
    const std::regex type("# TYPE ([a-z_]+) ");
    for (std::sregex_iterator it(text.begin(), text.end(), type), end; it != end; ++it)
      known.insert((*it)[1]);
  }
  EXPECT_GE(Value(texts["mount"], "cairn_mount_written_bytes_total"), kBytes);
  EXPECT_EQ(Value(texts["mount"], "cairn_mount_connected"), 1);
  EXPECT_GE(Value(texts["mount"], "cairn_mount_operation_seconds_count{operation=\"Write\"}"), 1);
  EXPECT_GE(Value(texts["master"], "cairn_master_request_seconds_count{op=\"create\"}"), 1)
      << texts["master"];
  EXPECT_EQ(Value(texts["master"], "cairn_master_health{state=\"healthy\"}"), 1);
  EXPECT_EQ(Value(texts["master"], "cairn_master_health{state=\"degraded\"}"), 0);
  double received = 0;
  for (const char* part : {"cs1", "cs2", "cs3"}) {
    const double bytes = Value(texts[part], "cairn_chunkserver_request_bytes_total{request=\"mutate\"}");
    EXPECT_EQ(Value(texts[part], "cairn_chunkserver_registered"), 1) << part;
    received += bytes;
  }
  EXPECT_GE(received, 2.0 * kBytes) << "a write quorum of copies";

  // Nothing that the alerts and the dashboard look at is misspelt or gone.
  for (const char* name : {"alerts.yml", "dashboard.json"}) {
    std::ifstream file(kMonitoring + name);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    ASSERT_NE(content, "") << name;
    const std::regex metric("(cairn|process)_[a-z]+_[a-z_]+");
    int used = 0;
    for (std::sregex_iterator it(content.begin(), content.end(), metric), end; it != end; ++it) {
      std::string base = it->str();
      for (const char* suffix : {"_bucket", "_count"}) {
        if (base.ends_with(suffix)) base.resize(base.size() - std::string(suffix).size());
      }
      EXPECT_TRUE(known.contains(base)) << name << " uses " << it->str() << ", which no daemon has";
      ++used;
    }
    EXPECT_GT(used, 10) << name;
  }
  EXPECT_FALSE(nlohmann::json::parse(std::ifstream(kMonitoring + "dashboard.json"))["panels"].empty());
}

TEST(Metrics, AlertRulesAreValidAndSayWhatTheyShould) {
  if (!Installed("promtool")) GTEST_SKIP() << "promtool is missing (Debian: prometheus)";
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"check", "rules", kMonitoring + "alerts.yml"},
                                             {"check", "config", kMonitoring + "prometheus.yml"},
                                             {"test", "rules", kMonitoring + "alerts_test.yml"}}) {
    std::vector<std::string> command{"promtool"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const RunResult run = RunProgram(command);
    EXPECT_EQ(run.exit_code, 0) << run.Both();
  }
}

// A Prometheus that scrapes the cluster every second, with the alert rules' waiting times cut to a second.
class Prometheus {
 public:
  explicit Prometheus(const LocalCluster& cluster) : directory_(cluster.directory() + "/prometheus") {
    std::filesystem::create_directories(directory_);
    std::ifstream rules(kMonitoring + "alerts.yml");
    std::ofstream(directory_ + "/alerts.yml") << std::regex_replace(
        std::string{std::istreambuf_iterator<char>(rules), {}}, std::regex("for: [0-9]+[ms]"), "for: 1s");
    std::ofstream(directory_ + "/prometheus.yml")
        << "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\n"
        << "scrape_configs:\n  - job_name: cairn\n    file_sd_configs: [{files: ['" << cluster.directory()
        << "/run/metrics-targets.json']}]\n";
    const RunResult port =
        RunProgram({"python3", "-c",
                    "import socket; s=socket.socket(); s.bind(('127.0.0.1',0)); print(s.getsockname()[1])"});
    address_ = "127.0.0.1:" + std::to_string(std::stoi(port.out));
    const RunResult started = RunProgram(
        {"sh", "-c",
         "cd " + directory_ +
             " && { prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=" +
             address_ + " >log 2>&1 & echo $!; }"});
    pid_ = std::stoi(started.out);
  }
  ~Prometheus() { kill(pid_, SIGKILL); }

  // Labels of the firing alerts of that name.
  std::vector<nlohmann::json> Firing(const std::string& name) const {
    std::vector<nlohmann::json> firing;
    const auto answer = nlohmann::json::parse(Get(address_, "/api/v1/alerts"), nullptr, false);
    if (!answer.is_object()) return firing;
    for (const auto& alert : answer["data"]["alerts"]) {
      if (alert["state"] == "firing" && alert["labels"]["alertname"] == name)
        firing.push_back(alert["labels"]);
    }
    return firing;
  }
  // Whether all targets were scraped.
  bool SeesAll(size_t targets) const {
    const auto answer = nlohmann::json::parse(Get(address_, "/api/v1/query?query=up%3D%3D1"), nullptr, false);
    return answer.is_object() && answer["data"]["result"].size() == targets;
  }
  std::string Log() const { return ReadFile(directory_ + "/log"); }

 private:
  const std::string directory_;
  std::string address_;
  pid_t pid_ = 0;
};

TEST(Metrics, AKilledChunkserverFiresItsAlertWhichEndsWhenItIsBack) {
  if (!Installed("prometheus")) GTEST_SKIP() << "prometheus is missing";
  auto cluster = StartWithMetrics();
  ASSERT_NE(cluster, nullptr);
  const Prometheus prometheus(*cluster);
  ASSERT_TRUE(WaitUntil([&] { return prometheus.SeesAll(5); }, 60'000)) << prometheus.Log();
  EXPECT_TRUE(prometheus.Firing("CairnServerDown").empty());

  const int64_t killed = NowMillis();
  cluster->Kill("cs2");
  ASSERT_TRUE(WaitUntil([&] { return !prometheus.Firing("CairnServerDown").empty(); }, 60'000))
      << prometheus.Log();
  Figure("an alert fires " + std::to_string(NowMillis() - killed) + " ms after a chunkserver was killed");
  const auto alerts = prometheus.Firing("CairnServerDown");
  ASSERT_EQ(alerts.size(), 1u);
  EXPECT_EQ(alerts[0]["server"], "cs2");
  EXPECT_EQ(alerts[0]["address"], cluster->ServerAddresses()[1]);
  EXPECT_TRUE(WaitUntil(
      [&] {
        const auto dead = prometheus.Firing("CairnTargetDown");
        return dead.size() == 1 && dead[0]["part"] == "cs2";
      },
      30'000));

  cluster->Up({"--only", "cs2"});
  EXPECT_TRUE(WaitUntil(
      [&] {
        return prometheus.Firing("CairnServerDown").empty() && prometheus.Firing("CairnTargetDown").empty();
      },
      60'000));
}

}  // namespace
}  // namespace cairn::cluster_test

#include "tests/cluster/browser.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <regex>

#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

constexpr int64_t kStartMs = 60'000;

// chromedriver in a process group of its own, with its output in a pipe. 0: it is not there.
pid_t SpawnDriver(int* output) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  char program[] = "chromedriver", port[] = "--port=0";
  char* const argv[] = {program, port, nullptr};
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, program, &actions, &attributes, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(pipe_fds[1]);
  *output = pipe_fds[0];
  return error == 0 ? pid : 0;
}

// The port that it says it listens on; 0: it does not.
int PortOf(int output) {
  std::string said;
  const int64_t end = NowMillis() + kStartMs;
  const std::regex line("started successfully on port ([0-9]+)");
  while (NowMillis() < end) {
    pollfd waiter{.fd = output, .events = POLLIN, .revents = 0};
    if (poll(&waiter, 1, 200) <= 0) continue;
    char buffer[1024];
    const ssize_t length = read(output, buffer, sizeof buffer);
    if (length <= 0) return 0;
    said.append(buffer, static_cast<size_t>(length));
    if (std::smatch match; std::regex_search(said, match, line)) return std::stoi(match[1]);
  }
  return 0;
}

std::string FromBase64(const std::string& text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    int value = -1;
    if (c >= 'A' && c <= 'Z') value = c - 'A';
    if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
    if (c >= '0' && c <= '9') value = c - '0' + 52;
    if (c == '+') value = 62;
    if (c == '/') value = 63;
    if (value < 0) continue;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++count % 4 == 0) bytes += {static_cast<char>(bits >> 16), static_cast<char>(bits >> 8), static_cast<char>(bits)};
  }
  if (count % 4 == 3) bytes += {static_cast<char>(bits >> 10), static_cast<char>(bits >> 2)};
  if (count % 4 == 2) bytes += static_cast<char>(bits >> 4);
  return bytes;
}

}  // namespace

std::unique_ptr<Browser> Browser::Start(std::string* problem) {
  for (const char* program : {"chromium", "chromedriver"}) {
    if (RunProgram({"sh", "-c", std::string("command -v ") + program}).exit_code == 0) continue;
    *problem = std::string(program) + " is missing (Debian: chromium, chromium-driver)";
    return nullptr;
  }
  std::unique_ptr<Browser> browser(new Browser());
  std::string pattern = std::filesystem::temp_directory_path() / "cairn-browser-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return nullptr;
  browser->profile_ = pattern;
  int output = -1;
  browser->driver_ = SpawnDriver(&output);
  const int port = browser->driver_ == 0 ? 0 : PortOf(output);
  close(output);
  if (port == 0) {
    *problem = "chromedriver does not start";
    return nullptr;
  }
  browser->http_ = std::make_unique<httplib::Client>("127.0.0.1", port);
  browser->http_->set_read_timeout(kStartMs / 1000);
  browser->http_->set_keep_alive(true);
  const nlohmann::json arguments = {"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                                    "--disable-background-networking", "--disable-component-update", "--disable-sync",
                                    "--hide-scrollbars", "--user-data-dir=" + browser->profile_};
  const nlohmann::json wanted = {{"browserName", "chrome"},
                                 {"goog:loggingPrefs", {{"browser", "ALL"}}},
                                 {"goog:chromeOptions", {{"args", arguments}}}};
  const auto session = browser->Call("POST", "/session", {{"capabilities", {{"alwaysMatch", wanted}}}});
  if (!session.is_object()) {
    *problem = "Chromium does not start: " + browser->error_;
    return nullptr;
  }
  browser->session_ = "/session/" + session["sessionId"].get<std::string>();
  return browser;
}

Browser::~Browser() {
  if (!session_.empty()) Call("DELETE", session_, {});
  if (driver_ > 0) {
    kill(-driver_, SIGKILL);  // its own process group, with a Chromium that did not end
    waitpid(driver_, nullptr, 0);
  }
  std::error_code ignored;
  if (!profile_.empty()) std::filesystem::remove_all(profile_, ignored);
}

nlohmann::json Browser::Call(const std::string& method, const std::string& path, const nlohmann::json& body) {
  const httplib::Result answer = method == "POST"     ? http_->Post(path, body.dump(), "application/json")
                                 : method == "DELETE" ? http_->Delete(path)
                                                      : http_->Get(path);
  error_.clear();
  if (!answer) {
    error_ = "no answer from chromedriver";
    return {};
  }
  const auto json = nlohmann::json::parse(answer->body, nullptr, false);
  if (answer->status != 200 || !json.is_object()) {
    error_ = answer->body.substr(0, 1000);
    return {};
  }
  return json["value"];
}

nlohmann::json Browser::Command(const std::string& name, const nlohmann::json& parameters) {
  auto value = Call("POST", session_ + "/goog/cdp/execute", {{"cmd", name}, {"params", parameters}});
  EXPECT_EQ(error_, "") << name;
  return value;
}

void Browser::Open(const std::string& url) {
  Call("POST", session_ + "/url", {{"url", url}});
  EXPECT_EQ(error_, "") << url;
}

nlohmann::json Browser::Run(const std::string& script, nlohmann::json arguments) {
  auto value = Call("POST", session_ + "/execute/sync", {{"script", script}, {"args", std::move(arguments)}});
  EXPECT_EQ(error_, "") << script;
  return value;
}

bool Browser::Wait(const std::string& script, int64_t timeout_ms) {
  return WaitUntil(
      [&] {
        const auto value = Call("POST", session_ + "/execute/sync", {{"script", script}, {"args", nlohmann::json::array()}});
        return value.is_boolean() && value.get<bool>();
      },
      timeout_ms, 50);
}

void Browser::Resize(int width, int height) {
  Command("Emulation.setDeviceMetricsOverride",
          {{"width", width}, {"height", height}, {"deviceScaleFactor", 1}, {"mobile", false}});
}

void Browser::Prefer(const std::string& scheme) {
  Command("Emulation.setEmulatedMedia",
          {{"features", nlohmann::json::array({{{"name", "prefers-color-scheme"}, {"value", scheme}}})}});
}

std::string Browser::Screenshot() {
  const auto value = Call("GET", session_ + "/screenshot", {});
  return value.is_string() ? FromBase64(value.get<std::string>()) : std::string();
}

std::vector<std::string> Browser::Messages() {
  std::vector<std::string> messages;
  for (const auto& entry : Call("POST", session_ + "/se/log", {{"type", "browser"}}))
    messages.push_back(entry.value("level", "") + " " + entry.value("message", ""));
  return messages;
}

}  // namespace cairn::cluster_test

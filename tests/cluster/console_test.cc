// The web console in a real browser on a real cluster: every page in both themes, on a desktop and on a phone;
// all links; values equal to the CLI's; a killed server shows by itself; changes with preview and token.
//
// CAIRN_CONSOLE_SCREENSHOTS=DIR keeps a picture of every page there.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/cluster/browser.h"
#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

using testing::HasSubstr;

constexpr char kReady[] = "return document.getElementById('page')?.dataset.ready === 'true'";

uint64_t Count(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

// Text of what a selector finds; empty: nothing.
std::string Text(const std::string& selector) {
  return "(document.querySelector(" + nlohmann::json(selector).dump() + ")?.innerText ?? '')";
}
std::string Has(const std::string& selector, const std::string& text) {
  return "return " + Text(selector) + ".includes(" + nlohmann::json(text).dump() + ")";
}
std::string Click(const std::string& selector) {
  return "document.querySelector(" + nlohmann::json(selector).dump() + ").click()";
}
// As a person types.
std::string Type(const std::string& selector, const std::string& text) {
  return "const field = document.querySelector(" + nlohmann::json(selector).dump() + "); field.value = " +
         nlohmann::json(text).dump() + "; field.dispatchEvent(new Event('input', {bubbles: true}));" +
         "field.dispatchEvent(new Event('change', {bubbles: true}))";
}

class ConsoleTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    browser_ = Browser::Start(&problem);
    if (browser_ == nullptr && problem.find("missing") != std::string::npos) GTEST_SKIP() << problem;
    ASSERT_NE(browser_, nullptr) << problem;
    LocalCluster::Options options;
    options.up_arguments = {"--chunkserver-flag=--rack=A", "--chunkserver-flag=--zone=west"};
    cluster_ = LocalCluster::Start(options);
    ASSERT_NE(cluster_, nullptr);
    std::getline(std::ifstream(cluster_->directory() + "/run/console-url"), url_);
    ASSERT_TRUE(url_.starts_with("http://127.0.0.1:")) << url_;
    std::ifstream(cluster_->DataOf("master") + "/admin-token") >> token_;
    browser_->Resize(1280, 900);
  }
  void TearDown() override {
    browser_.reset();
    cluster_.reset();
  }

  void WriteFiles() {
    std::filesystem::create_directories(cluster_->Path("projects/atlas"));
    for (int i = 0; i < 8; ++i)
      ASSERT_EQ(WriteFile(cluster_->Path("projects/atlas/run " + std::to_string(i) + ".dat"), Pattern(i, 50'000)), 0);
    ASSERT_EQ(WriteFile(cluster_->Path("notes.txt"), "cairn\n"), 0);
    ASSERT_EQ(symlink("notes.txt", cluster_->Path("link").c_str()), 0);
    ASSERT_TRUE(WaitUntil([&] { return Count(cluster_->Status(), "chunks") >= 9; }, 30'000));
    ASSERT_TRUE(cluster_->WaitHealthy(30'000));
  }
  // By its hash, as a link does; the first time the whole page is loaded.
  void Visit(const std::string& hash) {
    if (!opened_) {
      browser_->Open(url_ + hash);
      ASSERT_TRUE(browser_->Wait(kReady)) << url_ + hash;
    }
    opened_ = true;
    browser_->Run("document.getElementById('page').dataset.ready = 'false'; location.hash = " + nlohmann::json(hash).dump() +
                  "; dispatchEvent(new HashChangeEvent('hashchange'))");
    ASSERT_TRUE(browser_->Wait(kReady)) << hash;
  }
  void ExpectQuiet(const std::string& where) {
    for (const std::string& message : browser_->Messages()) ADD_FAILURE() << where << ": " << message;
  }
  void ExpectWhole(const std::string& where) {
    const auto page = browser_->Run(
        "return [document.documentElement.scrollWidth - innerWidth, document.body.innerText,"
        " document.querySelectorAll('#page [role=alert]').length, document.title, document.querySelectorAll('#page h1, #page .card').length]");
    EXPECT_LE(page[0].get<int>(), 0) << where << " is wider than the window";
    for (const char* leak : {"undefined", "NaN", "[object", "Infinity", "null"})
      EXPECT_EQ(page[1].get<std::string>().find(leak), std::string::npos) << where << " shows '" << leak << "'";
    EXPECT_EQ(page[2], 0) << where << ": " << page[1];
    EXPECT_THAT(page[3].get<std::string>(), HasSubstr(" · Cairn")) << where;
    EXPECT_GT(page[4].get<int>(), 0) << where << " is empty";
    if (const char* directory = std::getenv("CAIRN_CONSOLE_SCREENSHOTS")) {
      std::string name = where;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      std::ofstream(std::string(directory) + "/" + name + ".png", std::ios::binary) << browser_->Screenshot();
    }
  }
  void LogIn() {
    ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog[open] input[name=token]') !== null"));
    browser_->Run(Type("#dialog input[name=token]", token_));
    browser_->Run("document.querySelector('#dialog form').requestSubmit()");
    ASSERT_TRUE(browser_->Wait(Has("#login", "Log out")));
  }
  nlohmann::json Server(int id) const {
    const auto status = cluster_->Status();
    for (const auto& server : status["servers"]) {
      if (server.value("server", 0) == id) return server;
    }
    return {};
  }

  std::unique_ptr<Browser> browser_;
  std::unique_ptr<LocalCluster> cluster_;
  std::string url_, token_;
  bool opened_ = false;
};

TEST_F(ConsoleTest, EveryPageIsWholeInBothThemesAndOnAPhoneAndAllLinksLeadSomewhere) {
  WriteFiles();
  const std::vector<std::string> pages = {"#/overview", "#/topology", "#/servers", "#/server/1", "#/rebalance", "#/files/projects/atlas",
                                          "#/files/projects/atlas/run%203.dat", "#/policy/projects", "#/events", "#/sessions"};
  for (const char* scheme : {"light", "dark"}) {
    browser_->Prefer(scheme);
    for (const auto& [width, height] : {std::pair{1280, 900}, std::pair{360, 740}}) {
      browser_->Resize(width, height);
      for (const std::string& page : pages) {
        Visit(page);
        if (HasFatalFailure()) return;
        ExpectWhole(std::string(scheme) + " " + std::to_string(width) + " " + page);
      }
    }
  }
  // The button beats the system.
  browser_->Run(Click("#theme"));
  EXPECT_EQ(browser_->Run("return document.documentElement.dataset.theme"), "light");
  const auto background = browser_->Run("return getComputedStyle(document.body).backgroundColor");
  browser_->Prefer("light");
  EXPECT_EQ(browser_->Run("return getComputedStyle(document.body).backgroundColor"), background);

  browser_->Resize(1280, 900);
  std::set<std::string> seen;
  std::vector<std::string> todo = {"#/overview"};
  while (!todo.empty() && seen.size() < 200) {
    const std::string page = todo.back();
    todo.pop_back();
    if (!seen.insert(page).second) continue;
    Visit(page);
    EXPECT_EQ(browser_->Run("return document.querySelectorAll('#page [role=alert]').length"), 0) << page;
    for (const auto& link : browser_->Run("return [...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))")) {
      const auto href = link.get<std::string>();
      if (href == "#main") continue;
      EXPECT_TRUE(href.starts_with("#/")) << page << " leads out of the console: " << href;
      if (!seen.contains(href)) todo.push_back(href);
    }
  }
  EXPECT_GT(seen.size(), 30u) << "pages, files, chunks";
  EXPECT_LT(seen.size(), 200u);
  Figure(std::to_string(seen.size()) + " links of the console were followed");
  ExpectQuiet("the browser's console");
  // What is not there is told, with a way back.
  Visit("#/files/nothing");
  EXPECT_THAT(browser_->Run("return " + Text("#page")).get<std::string>(), HasSubstr("there is nothing at /nothing"));
  Visit("#/chunk/999999999");
  EXPECT_EQ(browser_->Run("return document.querySelectorAll('#page [role=alert]').length"), 1);
}

TEST_F(ConsoleTest, ValuesAreTheCommandLinesAndAKilledServerShowsByItself) {
  WriteFiles();
  Visit("#/overview");
  browser_->Run("window.sameDocument = true");
  // Servers tell with their heartbeats what they hold.
  ASSERT_TRUE(WaitUntil(
      [&] {
        const auto now = cluster_->Status();
        return std::ranges::all_of(now["servers"], [](const auto& server) { return Count(server, "chunks") == 9; });
      },
      30'000));
  const RunResult text = cluster_->Cairn({"status"});
  const auto status = cluster_->Status();
  EXPECT_TRUE(browser_->Wait(Has("#page .tag.large", status["health"].get<std::string>())));
  const std::string content = status["inodes"].get<std::string>() + " inodes, " + status["chunks"].get<std::string>() + " chunks";
  EXPECT_THAT(text.out, HasSubstr(content));
  EXPECT_TRUE(browser_->Wait(Has("#page", content)));
  // "Space:    16 TiB usable, 6.2 TiB free (raw ..."; free space of a machine that works moves now and then.
  EXPECT_TRUE(browser_->Wait("return /^[0-9.]+ [KMGTP]iB free of [0-9.]+ [KMGTP]iB usable$/.test(" + Text("#page .big") + ".trim())"))
      << browser_->Run("return " + Text("#page .big"));
  const auto big = browser_->Run("return " + Text("#page .big")).get<std::string>();
  const std::string usable = big.substr(big.find("of ") + 3, big.rfind(" usable") - big.find("of ") - 3);
  EXPECT_THAT(text.out, HasSubstr(usable + " usable"));

  Visit("#/servers");
  for (const auto& server : status["servers"]) {
    const int id = server["server"];
    const auto row = browser_->Run("return [...document.querySelectorAll('#page tbody tr')].map((tr) => tr.innerText).find((row) => row.startsWith('cs" +
                                   std::to_string(id) + "')) ?? ''").get<std::string>();
    EXPECT_THAT(row, HasSubstr(server["address"].get<std::string>()));
    EXPECT_THAT(row, HasSubstr("\t" + server["chunks"].get<std::string>() + "\t"));
    EXPECT_THAT(row, HasSubstr("west / A"));
  }
  const RunResult explain = cluster_->Cairn({"file", "explain", "--json", cluster_->Path("notes.txt")});
  ASSERT_EQ(explain.exit_code, 0) << explain.Both();
  const auto chunk = nlohmann::json::parse(explain.out)["chunks"][0];
  Visit("#/chunk/" + chunk["chunk"].get<std::string>());
  EXPECT_THAT(browser_->Run("return " + Text("#page")).get<std::string>(), HasSubstr("/notes.txt"));
  for (const auto& member : chunk["members"]) {
    const std::string stamp = member["accepted"]["epoch"].get<std::string>() + ":" + member["accepted"]["seq"].get<std::string>();
    EXPECT_THAT(browser_->Run("return " + Text("#page")).get<std::string>(), HasSubstr(stamp));
  }

  // What administrators call a server, and where they say that it stands.
  ASSERT_EQ(cluster_->Cairn({"server", "set", "cs3", "--name", "store-3", "--rack", "B"}).exit_code, 0);
  Visit("#/server/3");
  EXPECT_TRUE(browser_->Wait(Has("#page", "store-3 (cs3)")));
  EXPECT_TRUE(browser_->Wait(Has("#page", "B (set here; it says A)")));
  Visit("#/servers");
  EXPECT_TRUE(browser_->Wait(Has("#page", "store-3 (cs3)")));

  Visit("#/overview");
  ASSERT_TRUE(browser_->Wait(Has("#up", "3 of 3 servers up")));
  const int64_t killed = NowMillis();
  cluster_->Kill("cs2");
  EXPECT_TRUE(browser_->Wait(Has("#up", "2 of 3 servers up")));
  Figure("the open page shows a killed chunkserver after " + std::to_string(NowMillis() - killed) + " ms");
  EXPECT_TRUE(browser_->Wait(Has("#page .reasons", "cs2 down")));
  EXPECT_TRUE(browser_->Wait(Has("#headline", "degraded")));
  browser_->Run(Click("#login"));
  LogIn();
  ExpectQuiet("a server is down");

  // The master itself: what was known stays, marked as old, and the page finds it again.
  cluster_->Kill("master");
  EXPECT_TRUE(browser_->Wait("return !document.getElementById('banner').hidden && document.getElementById('main').classList.contains('stale')"));
  EXPECT_TRUE(browser_->Wait(Has("#banner", "No answer from the master")));
  EXPECT_TRUE(browser_->Wait(Has("#headline", "unknown")));
  cluster_->Up();
  EXPECT_TRUE(browser_->Wait("return document.getElementById('banner').hidden", 60'000));
  EXPECT_TRUE(browser_->Wait(Has("#up", "3 of 3 servers up"), 60'000));
  EXPECT_TRUE(browser_->Wait(Has("#login", "Log in"))) << "the login ended with the master";
  EXPECT_EQ(browser_->Run("return window.sameDocument"), true) << "all of it without a reload";
}

TEST_F(ConsoleTest, ChangesShowWhatTheyWouldDoAndNeedTheToken) {
  WriteFiles();
  cluster_->Up({"--chunkservers", "4", "--only", "cs4"});
  ASSERT_TRUE(cluster_->WaitHealthy(30'000));

  // A drain: the preview comes first, then the token, then the change.
  Visit("#/server/3");
  browser_->Run(Click("[data-action=SERVER_DRAIN]"));
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog [data-preview=shown] .impact') !== null"));
  EXPECT_THAT(browser_->Run("return " + Text("#dialog")).get<std::string>(), HasSubstr("chunks with a copy there"));
  EXPECT_EQ(Server(3)["mode"], "in service") << "a preview changes nothing";
  browser_->Run(Type("#dialog input[name=reason]", "a new disk"));
  browser_->Run(Click("#dialog button.primary"));
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog[open] input[name=token]') !== null"));
  EXPECT_EQ(Server(3)["mode"], "in service") << "nobody is logged in";
  browser_->Run(Type("#dialog input[name=token]", std::string(64, '0')));
  browser_->Run("document.querySelector('#dialog form').requestSubmit()");
  EXPECT_TRUE(browser_->Wait(Has("#dialog .problem", "not the administrator's token")));
  browser_->Messages();  // the refusal is reported there, as it should be
  LogIn();
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog [data-preview=shown] .impact') !== null"));
  EXPECT_EQ(browser_->Run("return document.querySelector('#dialog input[name=reason]').value"), "a new disk");
  browser_->Run(Click("#dialog button.primary"));
  ASSERT_TRUE(browser_->Wait("return !document.getElementById('dialog').open"));
  const auto drained = Server(3);
  EXPECT_TRUE(drained["mode"] == "draining" || drained["mode"] == "drained") << drained;
  EXPECT_EQ(drained["mode_reason"], "a new disk");
  EXPECT_TRUE(browser_->Wait(Has("#page", "Drain")));
  EXPECT_TRUE(browser_->Wait(Has("#page", "a new disk")));
  browser_->Run(Click("[data-action=SERVER_UNDRAIN]"));
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog[open] button.primary') !== null"));
  browser_->Run(Click("#dialog button.primary"));
  ASSERT_TRUE(browser_->Wait(Has("#page", "Maintenance")));
  EXPECT_EQ(Server(3)["mode"], "in service");

  // What would break the policy is refused in the preview, with the reason.
  Visit("#/server/1");
  browser_->Run(Click("[data-action=SERVER_REMOVE]"));
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog [data-preview=shown] .note.bad') !== null"));
  EXPECT_EQ(browser_->Run("return document.querySelector('#dialog button.danger').disabled"), true);
  browser_->Run("document.querySelector('#dialog .actions button').click()");

  ExpectQuiet("changes");

  browser_->Run(Click("#login"));
  EXPECT_TRUE(browser_->Wait(Has("#login", "Log in")));
}

TEST_F(ConsoleTest, APlanMovesNothingBeforeItIsApplied) {
  WriteFiles();
  cluster_->Up({"--chunkservers", "4", "--only", "cs4"});  // empty
  ASSERT_TRUE(cluster_->WaitHealthy(30'000));
  Visit("#/rebalance");
  browser_->Run(Click("#login"));
  LogIn();
  Visit("#/rebalance");
  browser_->Run(Type("#page input[name=threshold]", "0"));
  browser_->Run(Click("[data-action=plan]"));
  ASSERT_TRUE(browser_->Wait("return document.querySelectorAll('#page .plan tbody tr').length === 4"));
  EXPECT_EQ(cluster_->Status()["rebalance"]["state"], "idle") << "a plan changes nothing";
  const auto number = cluster_->Status()["rebalance"]["number"];
  // Heartbeats tell what the servers hold: the plan is asked for again until they have.
  ASSERT_TRUE(WaitUntil(
      [&] {
        browser_->Run(Click("[data-action=plan]"));
        return browser_->Wait("return document.querySelector('[data-action=apply]') !== null", 1000);
      },
      30'000));
  browser_->Run(Click("[data-action=apply]"));
  ASSERT_TRUE(browser_->Wait("return document.querySelector('#dialog [data-preview=shown] .plan') !== null"));
  ASSERT_TRUE(browser_->Wait("return !document.querySelector('#dialog button.primary').disabled"));
  browser_->Run(Click("#dialog button.primary"));
  ASSERT_TRUE(browser_->Wait("return !document.getElementById('dialog').open"));
  EXPECT_NE(cluster_->Status()["rebalance"]["number"], number) << "a plan was recorded";
  EXPECT_TRUE(WaitUntil([&] { return Count(Server(4), "chunks") > 0; }, 60'000)) << "and carried out";
  ExpectQuiet("a plan");
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(fd);
  return ntohs(address.sin_port);
}

// Who may change what through the `cairn` command, and where it finds the token.
class AdminTokenTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_ = LocalCluster::Start({});
    ASSERT_NE(cluster_, nullptr);
  }
  // As somebody to whom nobody gave the token.
  RunResult Cairn(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), std::string(CAIRN_BIN_DIR) + "/cairn");
    return RunProgram(arguments, {"CAIRN_ADMIN_TOKEN_FILE="});
  }
  std::string Mode() const { return cluster_->Status()["servers"][1].value("mode", ""); }
  std::unique_ptr<LocalCluster> cluster_;
};

TEST_F(AdminTokenTest, OnlyWhoeverHasTheTokenChangesTheClusterAndItsOwnerNeedsNoOption) {
  const std::string master = "--master=" + cluster_->MasterAddress();
  const RunResult refused = Cairn({"server", "maintenance", "cs2", "--for", "1h", master});
  EXPECT_EQ(refused.exit_code, 1) << refused.Both();
  EXPECT_THAT(refused.err, HasSubstr("needs the administrator's token"));
  EXPECT_THAT(refused.err, HasSubstr("--admin-token-file")) << "what to do";
  EXPECT_EQ(Cairn({"server", "maintenance", "cs2", "--for", "1h", "--preview", master}).exit_code, 0) << "previews are for everybody";
  EXPECT_EQ(Cairn({"rebalance", "plan", master}).exit_code, 0);
  EXPECT_EQ(Cairn({"rebalance", "pause", master}).exit_code, 1);
  EXPECT_EQ(Cairn({"master", "backup", cluster_->directory() + "/backup", master}).exit_code, 1);

  const std::string wrong = cluster_->directory() + "/wrong-token", own = cluster_->DataOf("master") + "/admin-token";
  std::ofstream(wrong) << std::string(64, '0') << "\n";
  chmod(wrong.c_str(), 0600);
  const RunResult other = Cairn({"rebalance", "pause", master, "--admin-token-file", wrong});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("not the administrator's token"));
  EXPECT_EQ(Mode(), "in service");

  EXPECT_EQ(Cairn({"server", "maintenance", "cs2", "--for", "1h", master, "--admin-token-file", own}).exit_code, 0);
  EXPECT_EQ(Mode(), "maintenance");
  const RunResult found = Cairn({"server", "undrain", "cs2", "--dir", cluster_->directory()});
  EXPECT_EQ(found.exit_code, 0) << found.Both();
  EXPECT_EQ(Mode(), "in service");
  chmod(own.c_str(), 0644);
  const RunResult open = Cairn({"rebalance", "pause", "--dir", cluster_->directory()});
  EXPECT_EQ(open.exit_code, 1);
  EXPECT_THAT(open.err, HasSubstr("chmod 600"));
  chmod(own.c_str(), 0600);
}

TEST_F(AdminTokenTest, UpTellsWhereTheConsoleIsAndRemembersWhetherThereIsOne) {
  const auto up = [this](std::vector<std::string> more) {
    more.insert(more.begin(), {"up", "--dir", cluster_->directory()});
    const RunResult result = Cairn(more);
    EXPECT_EQ(result.exit_code, 0) << result.Both();
    return result.out;
  };
  const auto answers = [](const std::string& url) {
    const auto answer = httplib::Client(url.substr(0, url.size() - 1)).Get("/api/status");
    return answer && answer->status == 200;
  };
  std::string url;
  std::getline(std::ifstream(cluster_->directory() + "/run/console-url"), url);
  EXPECT_THAT(up({}), HasSubstr("Console: " + url + " (changes ask for the token in " + cluster_->DataOf("master") + "/admin-token)"));
  EXPECT_TRUE(answers(url));

  EXPECT_THAT(up({"--console", "off"}), HasSubstr("when the master starts the next time"));
  EXPECT_TRUE(answers(url)) << "a running master is left alone";
  cluster_->Down({"--only", "master"});
  EXPECT_EQ(up({}).find("Console"), std::string::npos);
  EXPECT_FALSE(answers(url));
  const std::string wanted = "127.0.0.1:" + std::to_string(FreePort());
  up({"--console", wanted});
  cluster_->Down({"--only", "master"});
  EXPECT_THAT(up({}), HasSubstr("Console: http://" + wanted + "/"));
  EXPECT_TRUE(answers("http://" + wanted + "/"));
  const RunResult bad = Cairn({"up", "--dir", cluster_->directory(), "--console", "nonsense"});
  EXPECT_EQ(bad.exit_code, 2) << bad.Both();
}

}  // namespace
}  // namespace cairn::cluster_test

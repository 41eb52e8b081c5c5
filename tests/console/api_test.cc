// The console of a whole master over HTTP: what it answers is what the administration service says, and what
// it refuses it refuses for a reason that it tells.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "common/admin_token.h"
#include "master/console/assets.h"
#include "master/service/master_server.h"
#include "proto/cairn/admin.grpc.pb.h"
#include "tests/master/grpc_peers.h"

namespace cairn::master {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kToken(64, '7');

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  EXPECT_TRUE(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  return text;
}

class ConsoleApi : public testing::Test {
 protected:
  void SetUp() override { Start({.address = "127.0.0.1:0"}); }
  void TearDown() override {
    servers_.clear();
    if (master_ != nullptr) master_->Stop();
  }
  void Start(const console::ConsoleOptions& console) {
    if (master_ != nullptr) master_->Stop();
    MasterServerOptions options;
    options.listen = "127.0.0.1:0";
    options.core.min_free_bytes = 0;
    options.core.server_silence_ms = 600'000;  // the fakes send no heartbeats
    options.console = console;
    options.admin_token = kToken;
    auto master = MasterServer::Start(options, NewMemoryStore(Uuid{9, 9}));
    ASSERT_TRUE(master.ok()) << master.status().ToString();
    master_ = *std::move(master);
    admin_ = proto::AdminService::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(master_->port()), grpc::InsecureChannelCredentials()));
  }
  void StartServers(uint32_t count) {
    for (uint32_t i = 1; i <= count; ++i) servers_.push_back(std::make_unique<ChunkserverPeer>(master_->port(), i));
  }
  int port() const { return master_->console_port(); }
  httplib::Client Http() const { return httplib::Client("127.0.0.1", port()); }
  json Get(const std::string& path, int status = 200) const {
    const auto answer = Http().Get(path);
    EXPECT_TRUE(answer) << path;
    if (!answer) return {};
    EXPECT_EQ(answer->status, status) << path << ": " << answer->body;
    return json::parse(answer->body, nullptr, false);
  }
  std::string Error(const std::string& path, int status) const { return Get(path, status).value("error", ""); }
  // With a page's headers.
  httplib::Result Post(const std::string& path, const json& body, httplib::Headers headers = {}) const {
    if (headers.count("Origin") == 0) headers.emplace("Origin", "http://127.0.0.1:" + std::to_string(port()));
    return Http().Post(path, headers, body.dump(), "application/json");
  }
  // What a page sends after a login.
  httplib::Headers LoggedIn() const {
    const auto answer = Post("/api/login", {{"token", kToken}});
    EXPECT_TRUE(answer && answer->status == 200);
    return {{"Cairn-Session", json::parse(answer->body)["session"].get<std::string>()}};
  }
  std::string ModeOf(int server) const {
    const json status = Get("/api/status");
    for (const auto& one : status["servers"]) {
      if (one["server"] == server) return one["mode"];
    }
    return "";
  }

  std::unique_ptr<MasterServer> master_;
  std::unique_ptr<proto::AdminService::Stub> admin_;
  std::vector<std::unique_ptr<ChunkserverPeer>> servers_;
};

json Drain(int server) { return {{"server", server}, {"action", "SERVER_DRAIN"}, {"reason", "test"}, {"force", true}}; }

TEST_F(ConsoleApi, AnswersAreThoseOfTheAdministrationService) {
  StartServers(3);
  {
    SessionPeer client(master_->port());
    client.Hello();
    client.Create("file");
    json status = Get("/api/status");
    grpc::ClientContext context;
    proto::StatusResponse response;
    ASSERT_TRUE(admin_->Status(&context, {}, &response).ok());
    json expected = json::parse(ToJson(response));
    EXPECT_EQ(expected["servers"].size(), 3u);
    for (json* one : {&status, &expected}) {
      (*one)["durable_index"] = (*one)["grace_left_ms"] = "later";  // move by themselves
      for (auto& server : (*one)["servers"]) server["last_heartbeat_ms"] = "later";
    }
    EXPECT_EQ(status, expected);

    const json browse = Get("/api/browse?path=/file&max=10");
    EXPECT_EQ(browse["path"], "/file");
    EXPECT_EQ(browse["attr"]["type"], "REGULAR");
    EXPECT_NE(browse["writer_session"], "0");
    EXPECT_EQ(browse["policy"]["replicas"], 3);
    const json root = Get("/api/browse?path=/&max=10");
    ASSERT_EQ(root["entries"].size(), 1u);
    EXPECT_EQ(root["entries"][0]["name"], "file");
    EXPECT_EQ(Get("/api/browse?inode=" + browse["attr"]["inode"].get<std::string>())["path"], "/file");

    const json chunk = Get("/api/chunk?inode=" + browse["attr"]["inode"].get<std::string>() + "&index=0");
    EXPECT_EQ(chunk["members"].size(), 3u);
    EXPECT_EQ(Get("/api/chunk?chunk=" + chunk["chunk"].get<std::string>())["path"], "/file");
    EXPECT_EQ(Get("/api/sessions")["sessions"].size(), 1u);
    EXPECT_EQ(Get("/api/sessions")["sessions"][0]["write_lease_inodes"][0], browse["attr"]["inode"]);
    EXPECT_GT(Get("/api/events?newest=5")["events"].size(), 0u);
    EXPECT_TRUE(Get("/api/locks").contains("locks"));
    EXPECT_EQ(Get("/api/rebalance")["state"]["state"], "idle");
    EXPECT_EQ(Get("/api/server-chunks?server=1")["chunks"], "1");
    EXPECT_TRUE(Get("/api/history")["t"].is_array());
  }
  // Errors are told in words, with a status that fits.
  EXPECT_THAT(Error("/api/browse?path=/nothing/here", 404), HasSubstr("/nothing/here"));
  EXPECT_THAT(Error("/api/browse?path=relative", 400), HasSubstr("begins with '/'"));
  EXPECT_THAT(Error("/api/chunk?chunk=999999", 404), HasSubstr("chunk"));
  EXPECT_THAT(Error("/api/chunk?chunk=x", 400), HasSubstr("'x'"));
  EXPECT_THAT(Error("/api/chunk", 400), HasSubstr("inode"));
  EXPECT_THAT(Error("/api/server-chunks?server=99999999999", 400), HasSubstr("too large"));
  Get("/api/server-chunks?server=77", 404);
}

TEST_F(ConsoleApi, ChangesNeedALoginAndItsSecret) {
  StartServers(4);
  const auto refused = Post("/api/server", Drain(2));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 401);
  EXPECT_THAT(refused->body, HasSubstr("log in with the administrator's token"));
  EXPECT_EQ(Post("/api/rebalance", {{"action", "REBALANCE_PAUSE"}})->status, 401);

  const auto wrong = Post("/api/login", {{"token", std::string(64, '8')}});
  EXPECT_EQ(wrong->status, 401);
  EXPECT_FALSE(wrong->has_header("Set-Cookie"));
  EXPECT_EQ(Post("/api/login", {{"token", 5}})->status, 400);
  EXPECT_EQ(Http().Post("/api/login", "{", "application/json")->status, 400);

  const httplib::Headers admin = LoggedIn();
  EXPECT_EQ(Post("/api/server", Drain(2), {{"Cairn-Session", std::string(64, '0')}})->status, 401);
  EXPECT_EQ(Post("/api/server", Drain(2), {{"Cairn-Session", kToken}})->status, 401);
  EXPECT_EQ(ModeOf(2), "in service");

  const auto done = Post("/api/server", Drain(2), admin);
  EXPECT_EQ(done->status, 200) << done->body;
  EXPECT_THAT(json::parse(done->body).value("outcome", ""), HasSubstr("cs2"));
  EXPECT_NE(ModeOf(2), "in service");
  EXPECT_EQ(Post("/api/rebalance", {{"action", "REBALANCE_PAUSE"}}, admin)->status, 200);
  EXPECT_EQ(Get("/api/rebalance")["state"]["state"], "paused");
  bool named = false;
  const json events = Get("/api/events");
  for (const auto& event : events["events"]) named |= event["operator"] == "console" && event["server"] == 2;
  EXPECT_TRUE(named) << "the log tells who did it";

  EXPECT_EQ(Post("/api/logout", json::object(), admin)->status, 200);
  EXPECT_EQ(Post("/api/rebalance", {{"action", "REBALANCE_RESUME"}}, admin)->status, 401);
}

// What a browser sends by itself would also go to whatever listens on another port of this host, and come with other sites' requests.
TEST_F(ConsoleApi, NothingThatABrowserSendsByItselfAllowsAnything) {
  const auto login = Post("/api/login", {{"token", kToken}});
  ASSERT_TRUE(login && login->status == 200);
  EXPECT_FALSE(login->has_header("Set-Cookie"));
  const std::string secret = json::parse(login->body)["session"];
  const httplib::Headers cookie = {{"Cookie", "Cairn-Session=" + secret}};
  EXPECT_EQ(Post("/api/rebalance", {{"action", "REBALANCE_PAUSE"}}, cookie)->status, 401);
  EXPECT_EQ(Http().Get("/api/session", cookie)->body.find("true"), std::string::npos);
  const auto session = Http().Get("/api/session", {{"Cairn-Session", secret}});
  EXPECT_EQ(json::parse(session->body), (json{{"logged_in", true}, {"login_to_read", false}})) << "the secret is told once";
}

TEST_F(ConsoleApi, ProgramsShowTheTokenItself) {
  StartServers(4);
  const httplib::Headers token = {{"Authorization", "Bearer " + kToken}};
  EXPECT_EQ(Post("/api/server", Drain(3), token)->status, 200);
  EXPECT_EQ(Post("/api/server", Drain(4), {{"Authorization", "Bearer " + std::string(64, '0')}})->status, 401);
  EXPECT_EQ(ModeOf(4), "in service");
}

TEST_F(ConsoleApi, TheAdministrationServiceItselfAsksForTheToken) {
  StartServers(4);
  proto::ChangeServerRequest drain;
  drain.set_server(2);
  drain.set_action(proto::SERVER_DRAIN);
  drain.set_force(true);
  drain.set_reason("test");
  const auto code = [&](auto method, const auto& request, auto response, const std::string& token) {
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata(kAdminTokenMetadata, token);
    return (admin_.get()->*method)(&context, request, &response).error_code();
  };
  using Stub = proto::AdminService::Stub;
  for (const std::string& token : {std::string(), std::string(64, '8'), kToken.substr(1)}) {
    EXPECT_EQ(code(&Stub::ChangeServer, drain, proto::ChangeServerResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    proto::RebalanceRequest pause;
    pause.set_action(proto::REBALANCE_PAUSE);
    EXPECT_EQ(code(&Stub::Rebalance, pause, proto::RebalanceResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::AcceptLoss, proto::AcceptLossRequest(), proto::AcceptLossResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::BreakLocks, proto::BreakLocksRequest(), proto::BreakLocksResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::Backup, proto::BackupRequest(), proto::BackupResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::SetServer, proto::SetServerRequest(), proto::SetServerResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::ChangeDisk, proto::ChangeDiskRequest(), proto::ChangeDiskResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(code(&Stub::LogLevel, proto::LogLevelRequest(), proto::LogLevelResponse(), token), grpc::StatusCode::UNAUTHENTICATED);
  }
  EXPECT_EQ(ModeOf(2), "in service");
  EXPECT_EQ(code(&Stub::ChangeServer, drain, proto::ChangeServerResponse(), kToken), grpc::StatusCode::OK);
  EXPECT_NE(ModeOf(2), "in service");
  drain.set_preview(true);
  EXPECT_EQ(code(&Stub::ChangeServer, drain, proto::ChangeServerResponse(), ""), grpc::StatusCode::OK);
  EXPECT_EQ(code(&Stub::Rebalance, proto::RebalanceRequest(), proto::RebalanceResponse(), ""), grpc::StatusCode::OK);
}

TEST_F(ConsoleApi, PreviewsAndPlansAreForEverybodyAndChangeNothing) {
  StartServers(4);
  json preview = Drain(2);
  preview["preview"] = true;
  preview["force"] = false;
  const auto answer = Post("/api/server", preview);
  ASSERT_EQ(answer->status, 200) << answer->body;
  EXPECT_TRUE(json::parse(answer->body).contains("impact"));
  EXPECT_EQ(ModeOf(2), "in service");
  EXPECT_EQ(Post("/api/rebalance", {{"action", "REBALANCE_PLAN"}, {"threshold_percent", 1}})->status, 200);
  EXPECT_EQ(Post("/api/whatif", {{"servers", {1, 2}}})->status, 200);
  const auto unknown = Post("/api/whatif", {{"servers", {77}}});
  EXPECT_EQ(unknown->status, 404);
  EXPECT_THAT(unknown->body, HasSubstr("cs77"));
  EXPECT_EQ(Post("/api/whatif", {{"nonsense", 1}})->status, 400);
}

TEST_F(ConsoleApi, OtherSitesAndOtherNamesGetNothing) {
  const httplib::Headers admin = LoggedIn();
  const auto with = [&](const char* name, const std::string& value) {
    httplib::Headers headers = admin;
    headers.emplace(name, value);
    return headers;
  };
  const json pause = {{"action", "REBALANCE_PAUSE"}};
  EXPECT_EQ(Post("/api/rebalance", pause, with("Origin", "http://evil.example"))->status, 403);
  EXPECT_EQ(Post("/api/rebalance", pause, with("Sec-Fetch-Site", "cross-site"))->status, 403);
  EXPECT_EQ(Http().Post("/api/rebalance", admin, pause.dump(), "text/plain")->status, 400);
  // A name of somebody else's that resolves to this machine.
  const auto rebound = Http().Get("/api/status", {{"Host", "evil.example:" + std::to_string(port())}});
  EXPECT_EQ(rebound->status, 403);
  EXPECT_EQ(rebound->body.find("cluster_id"), std::string::npos);
  EXPECT_EQ(Http().Get("/", {{"Host", "evil.example"}})->status, 403);
  EXPECT_EQ(Http().Get("/api/status", {{"Sec-Fetch-Site", "cross-site"}})->status, 403);
  EXPECT_EQ(Get("/api/rebalance")["state"]["state"], "idle");
}

TEST_F(ConsoleApi, MalformedRequestsAreAnsweredInWordsAndDoNoHarm) {
  EXPECT_EQ(Http().Get("/api/nothing")->status, 404);
  EXPECT_EQ(Http().Get("/../../etc/passwd")->status, 404);
  EXPECT_EQ(Http().Get("/css/../../../etc/passwd")->status, 404);
  EXPECT_EQ(Http().Get("/%2e%2e/%2e%2e/etc/passwd")->status, 404);
  EXPECT_EQ(Http().Get("/pages/")->status, 404);
  EXPECT_EQ(Http().Get("/api/login")->status, 405);
  EXPECT_EQ(Post("/api/status", json::object())->status, 405);
  EXPECT_EQ(Post("/index.html", json::object())->status, 405);
  for (const auto& answer : {Http().Put("/api/server", "{}", "application/json"), Http().Delete("/api/server"),
                             Http().Patch("/api/server", "{}", "application/json"), Http().Options("/api/server")}) {
    ASSERT_TRUE(answer);
    EXPECT_GE(answer->status, 400);
  }
  const auto large = Http().Post("/api/server", std::string(1 << 20, ' '), "application/json");
  EXPECT_TRUE(!large || large->status == 413);
  const std::string deep(60'000, '[');
  EXPECT_EQ(Http().Post("/api/server", deep, "application/json")->status, 400);
  EXPECT_EQ(Http().Get("/api/browse?path=/" + std::string(5000, 'a'))->status, 409);
  EXPECT_EQ(Get("/api/status").contains("health"), true);
}

TEST_F(ConsoleApi, BytesThatAreNoHttpEndOnlyTheirConnection) {
  for (const std::string& bytes : {std::string("\0\1\2\3 garbage \r\n\r\n", 17), std::string("GET\r\n\r\n"), std::string(100'000, 'A'),
                                   std::string("GET / HTTP/1.1\r\n") + std::string(50'000, 'x') + "\r\n\r\n",
                                   std::string("POST /api/login HTTP/1.1\r\nContent-Length: -5\r\n\r\n{}")}) {
    const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port())), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ASSERT_EQ(connect(socket_fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_GT(send(socket_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
    shutdown(socket_fd, SHUT_WR);
    char answer[512];
    while (recv(socket_fd, answer, sizeof answer, 0) > 0) {
    }
    close(socket_fd);
  }
  EXPECT_TRUE(Get("/api/status").contains("health"));
}

// The request is not ended: a server that reads the body before it decides would wait for the rest.
TEST_F(ConsoleApi, BodiesWithoutABoundAreRefusedBeforeTheyAreRead) {
  const std::string host = "POST /api/server HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port()) + "\r\n";
  const struct { std::string head; const char* status; } requests[] = {
      {host + "Transfer-Encoding: chunked\r\n\r\n10000\r\n", "411"},
      {host + "\r\n{", "411"},
      {host + "Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n", "415"},
      {host + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n", "415"},
  };
  for (const auto& [head, status] : requests) {
    const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port())), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ASSERT_EQ(connect(socket_fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(send(socket_fd, head.data(), head.size(), MSG_NOSIGNAL), static_cast<ssize_t>(head.size()));
    char answer[512] = {};
    EXPECT_GT(recv(socket_fd, answer, sizeof answer - 1, 0), 0);
    EXPECT_EQ(std::string(answer).substr(0, 12), std::string("HTTP/1.1 ") + status) << head;
    close(socket_fd);
  }
  EXPECT_TRUE(Get("/api/status").contains("health"));
}

TEST_F(ConsoleApi, EveryAnswerForbidsWhatThePagesDoNotNeed) {
  for (const char* path : {"/", "/js/app.js", "/css/base.css", "/api/status", "/nothing", "/api/nothing"}) {
    const auto answer = Http().Get(path);
    ASSERT_TRUE(answer) << path;
    const std::string policy = answer->get_header_value("Content-Security-Policy");
    EXPECT_THAT(policy, HasSubstr("default-src 'none'")) << path;
    EXPECT_THAT(policy, HasSubstr("script-src 'self';")) << path;
    EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'")) << path;
    EXPECT_THAT(policy, testing::Not(HasSubstr("unsafe"))) << path;
    EXPECT_EQ(answer->get_header_value("X-Frame-Options"), "DENY") << path;
    EXPECT_EQ(answer->get_header_value("X-Content-Type-Options"), "nosniff") << path;
    EXPECT_EQ(answer->get_header_value("Access-Control-Allow-Origin"), "") << path;
    if (std::string(path).starts_with("/api/")) {
      EXPECT_EQ(answer->get_header_value("Cache-Control"), "no-store") << path;
    }
  }
  EXPECT_EQ(Http().Get("/js/app.js")->get_header_value("Content-Type"), "text/javascript; charset=utf-8");
  EXPECT_EQ(Http().Get("/")->get_header_value("Content-Type"), "text/html; charset=utf-8");
}

TEST_F(ConsoleApi, ABusyPortIsRefusedByName) {
  MasterServerOptions options;
  options.listen = "127.0.0.1:0";
  options.core.min_free_bytes = 0;
  options.console = {.address = "127.0.0.1:" + std::to_string(port())};
  options.admin_token = kToken;
  const auto second = MasterServer::Start(options, NewMemoryStore(Uuid{8, 8}));
  EXPECT_EQ(second.code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr(options.console.address));
}

TEST(ConsoleStart, OnlyLoopbackUnlessRemoteIsGivenAndNeverWithoutAToken) {
  MasterServerOptions options;
  options.listen = "127.0.0.1:0";
  options.core.min_free_bytes = 0;
  options.console = {.address = "0.0.0.0:0"};
  options.admin_token = kToken;
  const auto open = MasterServer::Start(options, NewMemoryStore(Uuid{9, 9}));
  EXPECT_EQ(open.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(open.status().message(), HasSubstr("--console-remote"));
  options.console = {.address = "127.0.0.1:0"};
  options.admin_token = "";
  EXPECT_EQ(MasterServer::Start(options, NewMemoryStore(Uuid{9, 9})).code(), StatusCode::kInvalidArgument);
}

TEST_F(ConsoleApi, ARemoteConsoleTellsNothingWithoutALogin) {
  Start({.address = "0.0.0.0:0", .remote = true});
  EXPECT_THAT(Error("/api/status", 401), HasSubstr("log in"));
  Get("/api/browse?path=/", 401);
  EXPECT_EQ(Get("/api/session")["login_to_read"], true);
  EXPECT_EQ(Http().Get("/")->status, 200) << "the page on which to log in";
  httplib::Headers admin = LoggedIn();
  EXPECT_EQ(Http().Get("/api/status", admin)->status, 200);
  EXPECT_EQ(Http().Get("/api/status", {{"Authorization", "Bearer " + kToken}})->status, 200);
  EXPECT_EQ(Http().Get("/api/status", {{"Authorization", "Bearer x"}})->status, 401);
}

// Every file that a file names is there, none is too long to read, and none needs what the headers forbid.
TEST(ConsoleAssets, NameOnlyOneAnotherAndNeedNothingElse) {
  std::set<std::string> seen;
  std::vector<std::string> todo = {"/index.html"};
  const std::regex reference(R"((?:href|src)="(/[^"#]+)\"|from "([./][^"]+)\")");
  while (!todo.empty()) {
    const std::string path = todo.back();
    todo.pop_back();
    if (!seen.insert(path).second) continue;
    const console::Asset* asset = console::FindAsset(path);
    ASSERT_NE(asset, nullptr) << path;
    const std::string text(asset->content);
    EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 500) << path;
    EXPECT_EQ(text.find("<style"), std::string::npos) << path;
    EXPECT_EQ(text.find(" style=\""), std::string::npos) << path;
    EXPECT_EQ(text.find("innerHTML"), std::string::npos) << path;
    EXPECT_EQ(text.find("eval("), std::string::npos) << path;
    EXPECT_FALSE(std::regex_search(text, std::regex("<script>|https?://(?!www\\.w3\\.org)"))) << path;
    for (std::sregex_iterator it(text.begin(), text.end(), reference), end; it != end; ++it) {
      std::string found = (*it)[1].matched ? (*it)[1].str() : (*it)[2].str();
      if (found.starts_with("./")) found = path.substr(0, path.rfind('/')) + found.substr(1);
      if (found.starts_with("../")) found = found.substr(2);
      todo.push_back(found);
    }
  }
  EXPECT_GT(seen.size(), 20u);
}

}  // namespace
}  // namespace cairn::master

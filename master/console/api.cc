#include "master/console/api.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <charconv>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "common/admin_token.h"
#include "common/log.h"
#include "proto/cairn/admin.grpc.pb.h"

namespace cairn::master::console {
namespace {

constexpr auto kPatience = std::chrono::seconds(15);
constexpr size_t kMaxPathBytes = 4096;
constexpr char kBearer[] = "Bearer ";
constexpr char kOperator[] = "console";

// As `cairn --json` prints it (docs/operations.md).
std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  // Fails only for text that is not UTF-8, which no field of the administration holds.
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return "{}";
  return text;
}

Status FromJson(const std::string& text, google::protobuf::Message* message) {
  const auto parsed = google::protobuf::util::JsonStringToMessage(text, message);
  if (parsed.ok()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "the request is not understood: " + std::string(parsed.message())};
}

Status FromGrpc(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return Status::Ok();
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {StatusCode::kTimeout, "the master did not answer in time"};
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return {StatusCode::kBusy, status.error_message()};
    default:
      return {StatusCode::kUnavailable, "the master does not answer: " + status.error_message()};
  }
}

Status FromProto(const proto::StatusProto& status) {
  if (status.code() == 0) return Status::Ok();
  return {IsKnownStatusCode(status.code()) ? static_cast<StatusCode>(status.code()) : StatusCode::kIoError, status.message()};
}

Response Answer(const google::protobuf::Message& message) {
  Response response;
  response.body = ToJson(message);
  return response;
}

// A number of the query; `absent` when it is not there.
Result<uint64_t> Number(const Request& request, const std::string& name, uint64_t absent) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) return absent;
  uint64_t value = 0;
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    return Status(StatusCode::kInvalidArgument, "'" + name + "' is a number, not '" + text + "'");
  return value;
}
Result<uint32_t> SmallNumber(const Request& request, const std::string& name, uint32_t absent) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t value, Number(request, name, absent));
  if (value > UINT32_MAX) return Status(StatusCode::kInvalidArgument, "'" + name + "' is too large");
  return static_cast<uint32_t>(value);
}

}  // namespace

class Api::Calls {
 public:
  Calls(std::shared_ptr<grpc::Channel> channel, std::string token)
      : stub_(proto::AdminService::NewStub(std::move(channel))), token_(std::move(token)) {}

  template <typename Request, typename Response, typename Method>
  Result<Response> Call(Method method, const Request& request) {
    grpc::ClientContext context;
    context.AddMetadata(kAdminTokenMetadata, token_);  // who may ask for what was decided before
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    Response response;
    CAIRN_RETURN_IF_ERROR(FromGrpc((stub_.get()->*method)(&context, request, &response)));
    return response;
  }

 private:
  const std::unique_ptr<proto::AdminService::Stub> stub_;
  const std::string token_;
};

// The calls. Each fills in a request, and answers with the response as it came.
namespace {

using Stub = proto::AdminService::Stub;

template <typename Calls, typename RequestMessage, typename ResponseMessage, typename Method>
Response Ask(Calls& calls, Method method, const RequestMessage& request, const ResponseMessage*) {
  auto response = calls.template Call<RequestMessage, ResponseMessage>(method, request);
  if (!response.ok()) return ErrorResponse(response.status());
  if constexpr (requires { response->status().code(); }) {
    if (const Status status = FromProto(response->status()); !status.ok()) return ErrorResponse(status);
  }
  return Answer(*response);
}
#define CAIRN_ASK(calls, name, request) \
  Ask(calls, &Stub::name, request, static_cast<const proto::name##Response*>(nullptr))

Result<proto::EventsRequest> EventsOf(const Request& request) {
  proto::EventsRequest events;
  CAIRN_ASSIGN_OR_RETURN(const uint64_t after, Number(request, "after", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint32_t max, SmallNumber(request, "max", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint32_t newest, SmallNumber(request, "newest", 0));
  events.set_after(after);
  events.set_max_events(max);
  events.set_newest(newest);
  return events;
}

Result<proto::ExplainChunkRequest> ChunkOf(const Request& request) {
  proto::ExplainChunkRequest chunk;
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, Number(request, "chunk", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t inode, Number(request, "inode", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t index, Number(request, "index", 0));
  if ((id == 0) == (inode == 0)) return Status(StatusCode::kInvalidArgument, "give either 'chunk', or 'inode' and 'index'");
  chunk.set_chunk(id);
  chunk.set_inode(inode);
  chunk.set_index(index);
  return chunk;
}

Result<proto::BrowseRequest> BrowseOf(const Request& request) {
  proto::BrowseRequest browse;
  const auto path = request.query.find("path");
  CAIRN_ASSIGN_OR_RETURN(const uint64_t inode, Number(request, "inode", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t cursor, Number(request, "cursor", 0));
  CAIRN_ASSIGN_OR_RETURN(const uint32_t max, SmallNumber(request, "max", 0));
  if (path != request.query.end()) {
    if (path->second.size() > kMaxPathBytes) return Status(StatusCode::kNameTooLong, "the path is too long");
    browse.set_path(path->second);
  } else if (inode == 0) {
    return Status(StatusCode::kInvalidArgument, "give 'path' or 'inode'");
  }
  browse.set_inode(inode);
  browse.set_cursor(cursor);
  browse.set_max_entries(max);
  return browse;
}

Result<proto::ServerChunksRequest> ServerChunksOf(const Request& request) {
  proto::ServerChunksRequest chunks;
  CAIRN_ASSIGN_OR_RETURN(const uint32_t server, SmallNumber(request, "server", 0));
  chunks.set_server(server);
  return chunks;
}

}  // namespace

struct Api::Route {
  const char* method;
  const char* path;
  Response (*handle)(Api& api, const Request& request);
};

const std::vector<Api::Route>& Api::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/api/status", [](Api& api, const Request&) { return CAIRN_ASK(*api.calls_, Status, proto::StatusRequest()); }},
      {"GET", "/api/sessions",
       [](Api& api, const Request&) {
         proto::SessionsRequest sessions;
         sessions.set_with_leases(true);
         return CAIRN_ASK(*api.calls_, Sessions, sessions);
       }},
      {"GET", "/api/locks", [](Api& api, const Request&) { return CAIRN_ASK(*api.calls_, Locks, proto::LocksRequest()); }},
      {"GET", "/api/rebalance",
       [](Api& api, const Request&) { return CAIRN_ASK(*api.calls_, Rebalance, proto::RebalanceRequest()); }},
      {"GET", "/api/events",
       [](Api& api, const Request& request) {
         const auto events = EventsOf(request);
         return events.ok() ? CAIRN_ASK(*api.calls_, Events, *events) : ErrorResponse(events.status());
       }},
      {"GET", "/api/chunk",
       [](Api& api, const Request& request) {
         const auto chunk = ChunkOf(request);
         return chunk.ok() ? CAIRN_ASK(*api.calls_, ExplainChunk, *chunk) : ErrorResponse(chunk.status());
       }},
      {"GET", "/api/browse",
       [](Api& api, const Request& request) {
         const auto browse = BrowseOf(request);
         return browse.ok() ? CAIRN_ASK(*api.calls_, Browse, *browse) : ErrorResponse(browse.status());
       }},
      {"GET", "/api/server-chunks",
       [](Api& api, const Request& request) {
         const auto chunks = ServerChunksOf(request);
         return chunks.ok() ? CAIRN_ASK(*api.calls_, ServerChunks, *chunks) : ErrorResponse(chunks.status());
       }},
      {"GET", "/api/history",
       [](Api& api, const Request& request) {
         const auto after = Number(request, "after", 0);
         if (!after.ok()) return ErrorResponse(after.status());
         const auto server = SmallNumber(request, "server", 0);
         if (!server.ok()) return ErrorResponse(server.status());
         Response response;
         response.body = api.history_->Columns(*after, *server == 0 ? std::nullopt : std::optional(*server)).dump();
         return response;
       }},
      {"GET", "/api/session", [](Api& api, const Request& request) { return api.Session(request); }},
      {"POST", "/api/login", [](Api& api, const Request& request) { return api.Login(request); }},
      {"POST", "/api/logout", [](Api& api, const Request& request) { return api.Logout(request); }},
      {"POST", "/api/whatif",
       [](Api& api, const Request& request) {
         proto::WhatIfRequest what;
         const Status parsed = FromJson(request.body, &what);
         return parsed.ok() ? CAIRN_ASK(*api.calls_, WhatIf, what) : ErrorResponse(parsed);
       }},
      {"POST", "/api/server",
       [](Api& api, const Request& request) {
         proto::ChangeServerRequest change;
         Status status = FromJson(request.body, &change);
         if (status.ok() && !change.preview()) status = api.Authorize(request);
         if (!status.ok()) return ErrorResponse(status);
         change.set_operator_(kOperator);
         const auto changed = api.calls_->Call<proto::ChangeServerRequest, proto::ChangeServerResponse>(
             &Stub::ChangeServer, change);
         if (!changed.ok()) return ErrorResponse(changed.status());
         // A preview that would be refused is an answer like others: it says why.
         if (status = FromProto(changed->status()); !status.ok()) return ErrorResponse(status);
         return Answer(*changed);
       }},
      {"POST", "/api/rebalance",
       [](Api& api, const Request& request) {
         proto::RebalanceRequest change;
         Status status = FromJson(request.body, &change);
         const bool looks = change.action() == proto::REBALANCE_PLAN || change.action() == proto::REBALANCE_STATUS;
         if (status.ok() && !looks) status = api.Authorize(request);
         if (!status.ok()) return ErrorResponse(status);
         change.set_operator_(kOperator);
         return CAIRN_ASK(*api.calls_, Rebalance, change);
       }},
  };
  return routes;
}

Api::Api(ApiOptions options, std::shared_ptr<grpc::Channel> master, const History* history, const Clock* clock)
    : options_(std::move(options)),
      history_(history),
      logins_(options_.token, clock),
      calls_(std::make_unique<Calls>(std::move(master), options_.token)) {}

Api::~Api() = default;

bool Api::ReadStatus(proto::StatusResponse* status) {
  auto response = calls_->Call<proto::StatusRequest, proto::StatusResponse>(&Stub::Status, {});
  if (response.ok()) *status = *std::move(response);
  return response.ok();
}

Status Api::Authorize(const Request& request) {
  if (request.authorization.starts_with(kBearer))
    return logins_.CheckToken(request.authorization.substr(sizeof(kBearer) - 1));
  return logins_.Check(request.session);
}

Response Api::Login(const Request& request) {
  const auto json = nlohmann::json::parse(request.body, nullptr, false);
  if (!json.is_object() || !json.contains("token") || !json["token"].is_string())
    return ErrorResponse(400, "a login is {\"token\": \"...\"}");
  const auto secret = logins_.Login(json["token"].get<std::string>());
  if (!secret.ok()) return ErrorResponse(secret.status());
  CAIRN_LOG(Info, "console: an administrator logged in");
  Response response;
  response.body = nlohmann::json{{"logged_in", true}, {"session", *secret}}.dump();
  return response;
}

Response Api::Logout(const Request& request) {
  logins_.Logout(request.session);
  Response response;
  response.body = nlohmann::json{{"logged_in", false}}.dump();
  return response;
}

Response Api::Session(const Request& request) {
  Response response;
  response.body = nlohmann::json{{"logged_in", logins_.Check(request.session).ok()}, {"login_to_read", options_.login_to_read}}.dump();
  return response;
}

Response Api::Handle(const Request& request) {
  if (const Status host = CheckHost(request, options_.hosts); !host.ok()) return ErrorResponse(host);
  bool known = false;
  for (const Route& route : Routes()) {
    if (request.path != route.path) continue;
    known = true;
    if (request.method != route.method) continue;
    if (request.method != "GET") {
      if (const Status origin = CheckSameOrigin(request); !origin.ok()) return ErrorResponse(origin);
    } else if (!request.fetch_site.empty() && request.fetch_site != "same-origin" && request.fetch_site != "none") {
      return ErrorResponse(403, "a request from another site (" + request.fetch_site + ") is not answered");
    }
    const bool about_login = request.path == "/api/session" || request.path == "/api/login" || request.path == "/api/logout";
    if (options_.login_to_read && !about_login) {
      const Status reader = Authorize(request);
      if (!reader.ok()) return ErrorResponse(reader);
    }
    return route.handle(*this, request);
  }
  if (known) return ErrorResponse(405, request.path + " is not for " + request.method);
  return ErrorResponse(404, "there is no " + request.path);
}

}  // namespace cairn::master::console

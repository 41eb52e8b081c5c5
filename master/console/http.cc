#include "master/console/http.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "common/net/address.h"

namespace cairn::master::console {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool IsNumeric(const std::string& host) {
  net::SocketAddress address;
  return net::ParseNumeric({host, 1}, &address);
}

int HttpStatusOf(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return 200;
    case StatusCode::kInvalidArgument:
    case StatusCode::kMalformed:
      return 400;
    case StatusCode::kAccessDenied:
      return 401;
    case StatusCode::kNotPermitted:
      return 403;
    case StatusCode::kNotFound:
    case StatusCode::kUnknownChunk:
    case StatusCode::kNotDirectory:
      return 404;
    case StatusCode::kBusy:
    case StatusCode::kResourceExhausted:
      return 429;
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
      return 503;
    default:
      return 409;
  }
}

}  // namespace

Response ErrorResponse(int http_status, const std::string& message) {
  Response response;
  response.status = http_status;
  response.body = nlohmann::json{{"error", message}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

Response ErrorResponse(const Status& status) { return ErrorResponse(HttpStatusOf(status.code()), status.message()); }

std::vector<std::pair<std::string, std::string>> SecurityHeaders(const std::string& path) {
  return {
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      // The files change with the binary: they are asked for again, which costs nothing beside a master.
      {"Cache-Control", path.starts_with("/api/") ? "no-store" : "no-cache"},
  };
}

bool IsLoopback(const std::string& host) {
  if (Lower(host) == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Status CheckHost(const Request& request, const std::vector<std::string>& hosts) {
  const auto parsed = net::ParseHostPort(request.host, 80);
  if (parsed.ok()) {
    const std::string host = Lower(parsed->host);
    if (host == "localhost" || IsNumeric(host)) return Status::Ok();
    for (const std::string& allowed : hosts) {
      if (host == Lower(allowed)) return Status::Ok();
    }
  }
  return {StatusCode::kNotPermitted, "the console is not known as '" + request.host +
                                         "': use its address, or start the master with --console-host for that name"};
}

Status CheckSameOrigin(const Request& request) {
  if (!request.fetch_site.empty() && request.fetch_site != "same-origin")
    return {StatusCode::kNotPermitted, "a request from another site (" + request.fetch_site + ") is not carried out"};
  if (!request.origin.empty() && request.origin != "http://" + request.host && request.origin != "https://" + request.host)
    return {StatusCode::kNotPermitted, "a request from " + request.origin + " is not carried out"};
  const std::string type = Lower(request.content_type.substr(0, request.content_type.find(';')));
  if (type != "application/json")
    return {StatusCode::kInvalidArgument, "the request must be application/json, not '" + request.content_type + "'"};
  return Status::Ok();
}

}  // namespace cairn::master::console

// A request to the console and its answer, without the HTTP library: what decides is tested without sockets.
//
// Thread-safety: values and pure functions.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace cairn::master::console {

struct Request {
  std::string method;  // "GET", "POST"
  std::string path;    // decoded, without the query
  std::map<std::string, std::string> query;
  std::string host, origin, fetch_site, authorization, session, content_type;  // headers; empty: absent
  std::string body;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// {"error": message} with the HTTP status that fits, or with the one given.
Response ErrorResponse(int http_status, const std::string& message);
Response ErrorResponse(const Status& status);

// Headers that every answer carries: nothing is loaded from elsewhere, nothing runs that did not come from
// here, nobody frames the pages.
std::vector<std::pair<std::string, std::string>> SecurityHeaders(const std::string& path);

// A page of another site may make a browser send requests here, and with a name of its own that resolves to
// this machine it could even read the answers. So Host must be an address, "localhost", or a name that the
// administrator gave (`hosts`).
Status CheckHost(const Request& request, const std::vector<std::string>& hosts);
// For everything but GET: not from another site's page, and in a form that no page can send across sites
// unasked.
Status CheckSameOrigin(const Request& request);
// Whether a Host or Origin may be reached from this machine only.
bool IsLoopback(const std::string& host);

}  // namespace cairn::master::console

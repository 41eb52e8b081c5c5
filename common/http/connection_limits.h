// How much of an HTTP server one connection may take, and all of them together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn::http {

struct ConnectionLimits {
  int64_t request_ms = 10'000;   // from a request's first byte to its last
  int64_t response_ms = 10'000;  // from an answer's first byte to its last
  int64_t idle_ms = 2'000;       // until the first byte of a request comes
  int64_t lifetime_ms = 60'000;  // the answer under way then is the last one
  size_t max_request_bytes = 64 << 10;  // of a head; the server adds what a body may have
  size_t max_requests = 200;     // on one connection
  size_t max_connections = 48;   // each has a thread while it is open
};

}  // namespace cairn::http

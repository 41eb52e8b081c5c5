// The HTTP library's server with bounds: connections with deadlines (connections.h), a thread for each up to a number, no request whose
// body has no bound, and a stop that does not wait for slow peers.
//
// Thread-safety: as httplib::Server; Stop from any thread.
#pragma once

#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/http/connections.h"

namespace cairn::http {

struct ServerOptions {
  ConnectionLimits limits;
  size_t max_body_bytes = 0;  // of a POST; 0: only GET and HEAD are answered
};

// Why a request is refused for its method or for how its body comes, before a byte of that is read. The connection ends with the answer:
// what follows on it may be that body, and must not be taken for the next request.
struct Refusal {
  int status = 0;
  std::string message;
};
std::optional<Refusal> CheckBody(const httplib::Request& request, size_t max_body_bytes);

class BoundedServer final : public httplib::Server {
 public:
  // Says why a request is refused.
  using RefusalHandler = std::function<void(const httplib::Request&, const Refusal&, httplib::Response&)>;

  BoundedServer(const ServerOptions& options, RefusalHandler refuse);
  ~BoundedServer() override;  // after Stop, if it listened

  // Once bound: the library lets five connections wait to be accepted, and a browser opens six at once; the others would be tried again after a second.
  void AcceptMany();
  // Ends the connections under way and listens no longer.
  void Stop();

 private:
  struct Job {
    socket_t socket;
    Connections::Ticket ticket;
  };

  // By the listening thread: hands the socket to a thread of ours.
  bool process_and_close_socket(socket_t socket) override;
  void Work();
  void Serve(const Job& job);

  const ServerOptions options_;
  Connections connections_;
  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;              // guarded by mu_
  size_t idle_ = 0;                   // guarded by mu_; threads without a job
  bool ending_ = false;               // guarded by mu_
  std::vector<std::thread> threads_;  // guarded by mu_; started as they are needed
};

}  // namespace cairn::http

// Connections of an HTTP server: how long each may take, how many there are, and how all of them end.
//
// The HTTP library bounds a single read or write. Somebody who sends or takes a byte now and then would keep a thread for hours, and a
// stop of the process would wait for him. Here the whole request and the whole answer have a deadline, and when more connections come
// than there are threads, somebody who keeps a thread waiting gives way: of the peer with the most connections, the one that has
// waited longest. Who asks and reads at once never does, nor who has few connections beside somebody who has many.
//
//   Enter -> queued -> Run -> the thread's -> Leave
//
// Thread-safety: Connections: any thread. ConnectionStream: the thread that serves the connection.
#pragma once

#include <httplib.h>

#include <array>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>

#include "common/http/connection_limits.h"

namespace cairn::http {

class Connections {
 public:
  struct Entry {
    int socket = -1;
    std::string peer;       // its address, without the port
    bool queued = true;     // no thread serves it yet
    bool crowded = false;   // and none was free
    int64_t waits_ms = -1;  // since when its thread waits for the peer; -1: it does not
    bool ended = false;     // its socket was shut down
  };
  using Ticket = std::list<Entry>::iterator;

  // False: everything ends, close the socket. `crowded`: no thread is free.
  bool Enter(int socket, const std::string& peer, bool crowded, Ticket* ticket);
  // A thread serves it from now on.
  void Run(Ticket ticket);
  // Before the socket is closed: afterwards its number may be somebody else's.
  void Leave(Ticket ticket);
  void WaitsSince(Ticket ticket, int64_t monotonic_ms);  // -1: no more
  // All of them, and every later one.
  void EndAll();

 private:
  // Ends as many as are queued without a free thread, if there are so many who keep one waiting.
  void MakeRoom();

  std::mutex mu_;
  std::list<Entry> entries_;  // guarded by mu_
  size_t crowd_ = 0;          // guarded by mu_; entries that are crowded
  bool ending_ = false;       // guarded by mu_
};

// A socket with deadlines. Does not own the socket.
class ConnectionStream final : public httplib::Stream {
 public:
  ConnectionStream(int socket, const ConnectionLimits& limits, Connections* connections, Connections::Ticket ticket);

  // Whether a request begins before `idle_ms` are over.
  bool AwaitRequest();

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* data, size_t size) override;          // -1: error, or the deadline is over
  ssize_t write(const char* data, size_t size) override;  // all of it, or -1
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  enum class Phase { kIdle, kRequest, kResponse };
  void Begin(Phase phase, int64_t limit_ms);
  // Until the socket is ready for `events`, or the phase's time is over.
  bool Wait(short events) const;

  const int socket_;
  const ConnectionLimits limits_;
  Connections* const connections_;
  const Connections::Ticket ticket_;
  Phase phase_ = Phase::kIdle;
  int64_t since_ms_ = 0, until_ms_ = 0;  // of the phase
  size_t request_bytes_ = 0;             // given out of the request
  std::array<char, 4096> buffer_{};      // the library reads header lines byte by byte
  size_t begin_ = 0, end_ = 0;
};

// The address of the other side; empty: unknown.
std::string PeerOf(int socket);

}  // namespace cairn::http

// Who may change the cluster through the console: whoever showed the administrator's token. A page shows it once, gets a secret for
// its session and sends that in a header of each request; a program shows the token with every request (Authorization: Bearer).
//
// The secret is no cookie: a browser sends the cookies of 127.0.0.1 to whatever listens on another port of it, be it somebody else's,
// and along with requests that another site's page makes it send.
//
// The right token is accepted however many wrong ones came before: a pause would let anybody lock the administrator out, and guessing
// 256 random bits is hopeless at any speed.
//
// Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "common/status.h"

namespace cairn::master::console {

class Logins {
 public:
  static constexpr int64_t kSessionSeconds = 8 * 3600;
  static constexpr size_t kMaxSessions = 64;  // the oldest ends
  static constexpr int64_t kReportSeconds = 10;  // wrong tokens are logged at most so often, with their number

  Logins(std::string token, const Clock* clock) : token_(std::move(token)), clock_(clock) {}

  // The secret of a new session. kAccessDenied: it is not the token.
  Result<std::string> Login(const std::string& token);
  void Logout(const std::string& secret);
  // kAccessDenied with what to do: no session that is alive has this secret.
  Status Check(const std::string& secret);
  // A token with a single request. Errors as of Login.
  Status CheckToken(const std::string& token);

 private:
  struct Session {
    std::string secret;
    int64_t ends_ns = 0;
  };
  Status CheckTokenLocked(const std::string& token);
  void ForgetOld();

  const std::string token_;
  const Clock* const clock_;
  std::mutex mu_;
  std::deque<Session> sessions_;  // guarded by mu_; the oldest first
  uint64_t wrong_ = 0;            // guarded by mu_; tokens since the last report
  int64_t reported_ns_ = 0;       // guarded by mu_; 0: never
};

}  // namespace cairn::master::console

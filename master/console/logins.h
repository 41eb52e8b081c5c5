// Who may change the cluster through the console: whoever showed the administrator's token. A page shows it
// once and gets a session (a cookie that scripts cannot read) and a secret that it sends with each change; a
// program shows the token with every request (Authorization: Bearer).
//
// Guessing: after a few wrong tokens further ones are not looked at for a while, from wherever they come.
//
// Thread-safety: any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "common/status.h"

namespace cairn::master::console {

class Logins {
 public:
  struct Session {
    std::string id;      // the cookie
    std::string secret;  // X-CSRF-Token of each change
  };
  static constexpr int64_t kSessionSeconds = 8 * 3600;
  static constexpr size_t kMaxSessions = 64;  // the oldest ends
  static constexpr int kFreeFailures = 5;
  static constexpr int64_t kPauseSeconds = 10;

  Logins(std::string token, const Clock* clock) : token_(std::move(token)), clock_(clock) {}

  // kAccessDenied: it is not the token; kBusy: too many were wrong, the message says how long to wait.
  Result<Session> Login(const std::string& token);
  void Logout(const std::string& id);
  // The secret of a session that is alive; empty: there is none.
  std::string SecretOf(const std::string& id);
  // kAccessDenied with what to do: nobody is logged in, or the secret is wrong.
  Status Check(const std::string& id, const std::string& secret);
  // A token with a single request. Errors as of Login.
  Status CheckToken(const std::string& token);

 private:
  struct Entry {
    std::string secret;
    int64_t ends_ns = 0;
  };
  Status CheckTokenLocked(const std::string& token);
  void ForgetOld();

  const std::string token_;
  const Clock* const clock_;
  std::mutex mu_;
  std::map<std::string, Entry> sessions_;  // guarded by mu_; by cookie
  int failures_ = 0;                       // guarded by mu_; since the last success or pause
  int64_t closed_until_ns_ = 0;            // guarded by mu_
};

}  // namespace cairn::master::console

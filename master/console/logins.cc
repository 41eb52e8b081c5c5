#include "master/console/logins.h"

#include <algorithm>

#include "common/admin_token.h"
#include "common/log.h"

namespace cairn::master::console {

Status Logins::CheckTokenLocked(const std::string& token) {
  const int64_t now = clock_->NowNanos();
  if (now < closed_until_ns_) {
    return {StatusCode::kBusy, "too many wrong tokens; try again in " +
                                   std::to_string((closed_until_ns_ - now) / kNanosPerSecond + 1) + " s"};
  }
  if (SameSecret(token, token_)) {
    failures_ = 0;
    return Status::Ok();
  }
  if (++failures_ >= kFreeFailures) {
    failures_ = 0;
    closed_until_ns_ = now + kPauseSeconds * kNanosPerSecond;
    CAIRN_LOG(Warning, "console: {} wrong tokens; no more are looked at for {} s", kFreeFailures, kPauseSeconds);
  }
  return {StatusCode::kAccessDenied, "that is not the administrator's token of this cluster"};
}

void Logins::ForgetOld() {
  const int64_t now = clock_->NowNanos();
  std::erase_if(sessions_, [now](const auto& entry) { return entry.second.ends_ns <= now; });
}

Result<Logins::Session> Logins::Login(const std::string& token) {
  const std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckTokenLocked(token));
  ForgetOld();
  if (sessions_.size() >= kMaxSessions) {
    sessions_.erase(std::min_element(sessions_.begin(), sessions_.end(), [](const auto& a, const auto& b) {
      return a.second.ends_ns < b.second.ends_ns;
    }));
  }
  Session session;
  CAIRN_ASSIGN_OR_RETURN(session.id, RandomHex(32));
  CAIRN_ASSIGN_OR_RETURN(session.secret, RandomHex(32));
  sessions_[session.id] = {session.secret, clock_->NowNanos() + kSessionSeconds * kNanosPerSecond};
  return session;
}

void Logins::Logout(const std::string& id) {
  const std::lock_guard lock(mu_);
  sessions_.erase(id);
}

std::string Logins::SecretOf(const std::string& id) {
  const std::lock_guard lock(mu_);
  ForgetOld();
  const auto session = sessions_.find(id);
  return session == sessions_.end() ? std::string() : session->second.secret;
}

Status Logins::Check(const std::string& id, const std::string& secret) {
  const std::string wanted = SecretOf(id);
  if (wanted.empty())
    return {StatusCode::kAccessDenied, "log in with the administrator's token first: changes are for administrators"};
  if (!SameSecret(wanted, secret))
    return {StatusCode::kNotPermitted, "the page does not belong to this login; load it again"};
  return Status::Ok();
}

Status Logins::CheckToken(const std::string& token) {
  const std::lock_guard lock(mu_);
  return CheckTokenLocked(token);
}

}  // namespace cairn::master::console

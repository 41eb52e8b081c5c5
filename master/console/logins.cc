#include "master/console/logins.h"

#include "common/admin_token.h"
#include "common/log.h"

namespace cairn::master::console {

Status Logins::CheckTokenLocked(const std::string& token) {
  if (SameSecret(token, token_)) return Status::Ok();
  ++wrong_;
  const int64_t now = clock_->NowNanos();
  if (reported_ns_ == 0 || now - reported_ns_ >= kReportSeconds * kNanosPerSecond) {
    CAIRN_LOG(Warning, "console: {} wrong tokens since the last report", wrong_);
    wrong_ = 0;
    reported_ns_ = now;
  }
  return {StatusCode::kAccessDenied, "that is not the administrator's token of this cluster"};
}

void Logins::ForgetOld() {
  const int64_t now = clock_->NowNanos();
  while (!sessions_.empty() && sessions_.front().ends_ns <= now) sessions_.pop_front();
}

Result<std::string> Logins::Login(const std::string& token) {
  const std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckTokenLocked(token));
  ForgetOld();
  if (sessions_.size() >= kMaxSessions) sessions_.pop_front();
  CAIRN_ASSIGN_OR_RETURN(std::string secret, RandomHex(32));
  sessions_.push_back({secret, clock_->NowNanos() + kSessionSeconds * kNanosPerSecond});
  return secret;
}

void Logins::Logout(const std::string& secret) {
  const std::lock_guard lock(mu_);
  std::erase_if(sessions_, [&secret](const Session& session) { return SameSecret(session.secret, secret); });
}

Status Logins::Check(const std::string& secret) {
  const std::lock_guard lock(mu_);
  ForgetOld();
  for (const Session& session : sessions_) {
    if (SameSecret(session.secret, secret)) return Status::Ok();
  }
  return {StatusCode::kAccessDenied, "log in with the administrator's token first: changes are for administrators"};
}

Status Logins::CheckToken(const std::string& token) {
  const std::lock_guard lock(mu_);
  return CheckTokenLocked(token);
}

}  // namespace cairn::master::console

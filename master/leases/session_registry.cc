#include "master/leases/session_registry.h"

#include <algorithm>
#include <limits>

#include "common/check.h"

namespace cairn::master {

void SessionRegistry::AddMissing(SessionId id, std::string client_name, std::string host_id) {
  Session session;
  session.id = id;
  session.client_name = std::move(client_name);
  session.host_id = std::move(host_id);
  session.missing = true;
  if (sessions_.emplace(id, std::move(session)).second) ++missing_;
}

void SessionRegistry::StartGrace(int64_t now_ns) {
  grace_end_ns_ = now_ns + options_.lease_ns + options_.drift_ns;
  for (auto& [id, session] : sessions_) {
    if (session.missing) session.expires_ns = grace_end_ns_;
  }
}

int64_t SessionRegistry::GraceLeft(int64_t now_ns) const {
  if (missing_ == 0 || !options_.rules.Hold(ServiceRule::kGracePeriod)) return 0;
  return std::max<int64_t>(0, grace_end_ns_ - now_ns);
}

Session& SessionRegistry::Add(SessionId id, std::string client_name, std::string host_id, int64_t now_ns) {
  auto [it, inserted] = sessions_.emplace(id, Session{});
  CAIRN_CHECK(inserted, "a session id was used twice");
  Session& session = it->second;
  session.id = id;
  session.client_name = std::move(client_name);
  session.host_id = std::move(host_id);
  Renew(session, now_ns);
  return session;
}

Session* SessionRegistry::Find(SessionId id) {
  auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : &it->second;
}

Session* SessionRegistry::FindByChannel(const SessionChannel* channel) {
  auto it = by_channel_.find(channel);
  return it == by_channel_.end() ? nullptr : Find(it->second);
}

void SessionRegistry::Attach(Session& session, std::shared_ptr<SessionChannel> channel, int64_t now_ns) {
  Detach(session);
  by_channel_[channel.get()] = session.id;
  session.channel = std::move(channel);
  if (session.missing) {
    session.missing = false;
    --missing_;
  }
  Renew(session, now_ns);
}

size_t SessionRegistry::OfHost(const std::string& host) const {
  return static_cast<size_t>(
      std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) { return entry.second.host == host; }));
}

void SessionRegistry::MarkPresent(Session& session, int64_t now_ns) {
  if (session.missing) {
    session.missing = false;
    session.returned = true;
    --missing_;
  }
  session.held = true;
  Renew(session, now_ns);
}

void SessionRegistry::Detach(Session& session) {
  if (session.channel == nullptr) return;
  by_channel_.erase(session.channel.get());
  session.channel.reset();
}

void SessionRegistry::Renew(Session& session, int64_t now_ns) {
  session.renewed_ns = now_ns;
  session.expires_ns = now_ns + options_.lease_ns + options_.drift_ns;
}

std::vector<SessionId> SessionRegistry::Expired(int64_t now_ns) const {
  std::vector<SessionId> expired;
  for (const auto& [id, session] : sessions_) {
    if (!session.ended && !session.held && session.expires_ns <= now_ns) expired.push_back(id);
  }
  return expired;
}

void SessionRegistry::End(Session& session) {
  session.ended = true;
  if (session.missing) {
    session.missing = false;
    --missing_;
  }
}

void SessionRegistry::Remove(SessionId id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  Detach(it->second);
  if (it->second.missing) --missing_;
  sessions_.erase(it);
}

int64_t SessionRegistry::NextDeadline() const {
  int64_t next = std::numeric_limits<int64_t>::max();
  for (const auto& [id, session] : sessions_) {
    if (!session.ended) next = std::min(next, session.expires_ns);
  }
  return next;
}

size_t SessionRegistry::alive() const {
  return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(),
                                           [](const auto& entry) { return !entry.second.ended; }));
}

}  // namespace cairn::master

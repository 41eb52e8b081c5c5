#include "master/core/log_tail.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

#include "common/log.h"
#include "master/core/core.h"

namespace cairn::master {
namespace {

constexpr std::string_view kKeyName = "master/tail_key";
constexpr std::string_view kStartsName = "master/starts";
constexpr size_t kStartsKept = 64;
constexpr size_t kMacBytes = 16;

void PutNumber(uint64_t number, std::string* text) {
  for (int shift = 56; shift >= 0; shift -= 8) text->push_back(static_cast<char>(number >> shift));
}
uint64_t NumberAt(std::string_view text, size_t at) {
  uint64_t number = 0;
  for (size_t i = 0; i < 8; ++i) number = number << 8 | static_cast<unsigned char>(text[at + i]);
  return number;
}

}  // namespace

SessionId SessionOf(const proto::LogCommand& command) {
  if (command.session() != 0) return SessionId(command.session());
  if (command.has_grant_write_lease()) return SessionId(command.grant_write_lease().session());
  if (command.has_open_session()) return SessionId(command.open_session().session());
  if (command.has_hold_open()) return SessionId(command.hold_open().session());
  return SessionId{};
}

Result<uint64_t> LogTail::Start(uint64_t wanted, uint64_t recovered_index) {
  MetaTxn& txn = core_.txn();
  if (auto key = txn.Get(Family::kMeta, kKeyName)) {
    key_ = *key;
  } else {
    key_.resize(32);
    if (RAND_bytes(reinterpret_cast<unsigned char*>(key_.data()), static_cast<int>(key_.size())) != 1) {
      return Status(StatusCode::kIoError, "no random numbers for the key of kept commands");
    }
    txn.Put(Family::kMeta, kKeyName, key_);
  }
  // Pairs of (incarnation, index at which it found the log to end), oldest first.
  const std::string starts = txn.Get(Family::kMeta, kStartsName).value_or("");
  for (size_t at = 0; at + 16 <= starts.size(); at += 16)
    recovered_[NumberAt(starts, at)] = NumberAt(starts, at + 8);
  incarnation_ = recovered_.empty() ? wanted : std::max(wanted, recovered_.rbegin()->first + 1);
  recovered_[incarnation_] = recovered_index;
  while (recovered_.size() > kStartsKept) recovered_.erase(recovered_.begin());
  std::string text;
  for (const auto& [start, index] : recovered_) {
    PutNumber(start, &text);
    PutNumber(index, &text);
  }
  txn.Put(Family::kMeta, kStartsName, text);
  const std::string& boot = core_.options().boot_id;
  may_have_been_lost_ = may_be_missing_ = !core_.options().metadata_sync_always && (boot.empty() || txn.Get(Family::kMeta, kTailBootKey) != boot);
  return incarnation_;
}

void LogTail::Complete() {
  if (!may_be_missing_) return;
  may_be_missing_ = false;
  core_.txn().Put(Family::kMeta, kTailBootKey, core_.options().boot_id);
}

std::string LogTail::Mac(const proto::KeptCommand& kept) const {
  std::string text;
  PutNumber(kept.incarnation(), &text);
  PutNumber(kept.log_index(), &text);
  text += kept.command();
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  return std::string(reinterpret_cast<char*>(digest), kMacBytes);
}

void LogTail::Keep(uint64_t log_index, const proto::LogCommand& command, bool refused) {
  if (core_.options().metadata_sync_always || key_.empty()) return;  // answered only when it is on disk
  if (!core_.options().rules.Hold(ServiceRule::kTailKept)) return;
  const SessionId session = SessionOf(command);
  if (!session || command.has_open_session()) return;  // that is answered when it is on disk
  proto::KeptCommand kept;
  kept.set_incarnation(incarnation_);
  kept.set_log_index(log_index);
  command.SerializeToString(kept.mutable_command());
  kept.set_refused(refused);
  kept.set_mac(Mac(kept));
  outbox_[session].push_back(std::move(kept));
}

void LogTail::Attach(Outbox* outbox) {
  for (auto& [id, commands] : outbox_) {
    const Session* session = core_.sessions().Find(id);
    // Without a stream the reply does not go out either; a repeat of it waits until it is durable.
    if (session == nullptr || session->channel == nullptr) continue;
    auto message = std::find_if(outbox->begin(), outbox->end(),
                                [&](const auto& entry) { return entry.first == session->channel; });
    if (message == outbox->end()) {
      outbox->emplace_back(session->channel, proto::MasterMessage());
      message = std::prev(outbox->end());
    }
    for (proto::KeptCommand& kept : commands) *message->second.add_kept() = std::move(kept);
  }
  outbox_.clear();
}

bool LogTail::Lost(const proto::KeptCommand& kept) const {
  // What its own incarnation logged survived up to where the next one found the log to end.
  const auto next = recovered_.upper_bound(kept.incarnation());
  return next != recovered_.end() && kept.log_index() > next->second;
}

bool LogTail::Parse(const proto::KeptCommand& kept, SessionId session, proto::LogCommand* command) const {
  const std::string mac = Mac(kept);
  if (kept.mac().size() != mac.size() || CRYPTO_memcmp(mac.data(), kept.mac().data(), mac.size()) != 0) {
    CAIRN_LOG(Warning, "session {}: a kept command with a wrong authentication code is ignored",
              session.value());
    return false;
  }
  return command->ParseFromString(kept.command()) && SessionOf(*command) == session;
}

bool LogTail::Hold(const std::shared_ptr<SessionChannel>& channel, const proto::Hello& hello) {
  const SessionId session(hello.session());
  bool lost = held_.contains(session);
  for (const proto::KeptCommand& kept : hello.kept()) {
    proto::LogCommand command;
    if (!Lost(kept) || !Parse(kept, session, &command) || command.has_open_session()) continue;
    brought_.emplace(std::make_pair(kept.incarnation(), kept.log_index()),
                     Brought{std::move(command), kept.refused()});
    lost = true;
  }
  // Also who brings nothing: its claims are decided by the log as it was, which others may still bring.
  if (!lost && !(may_be_missing_ && core_.sessions().InGrace(core_.now()))) return false;
  Held& held = held_[session];
  held.channel = channel;
  held.hello = hello;
  held.hello.clear_kept();
  return true;
}

void LogTail::Closed(const SessionChannel* channel) {
  // What it brought stays: it was acknowledged, whether the client comes again or not.
  for (auto& [session, held] : held_) {
    if (held.channel.get() == channel) held.channel.reset();
  }
}

std::vector<LogTail::Held> LogTail::Run() {
  size_t applied = 0;
  size_t lost = 0;
  for (auto& [place, brought] : brought_) {
    const proto::LogCommand& command = brought.command;
    const SessionId session = SessionOf(command);
    const ApplyResult result = core_.ApplyAgain(command);
    ++applied;
    if (result.ok() || result.repeated || brought.refused) continue;
    const auto held = held_.find(session);
    if (held != held_.end()) ++held->second.lost_commands;
    ++lost;
    CAIRN_LOG(Warning, "session {}, request {}: lost with the end of the log and refused now: {}",
              session.value(), command.request_number(), result.reply.status().message());
  }
  brought_.clear();
  if (applied > 0) {
    CAIRN_LOG(Info, "{} commands that a loss of power had taken were brought back by {} sessions{}", applied,
              held_.size(), lost == 0 ? "" : "; " + std::to_string(lost) + " could not be applied any more");
  }
  std::vector<Held> ready;
  for (auto& [session, held] : held_) {
    if (Session* waiting = core_.sessions().Find(session)) {
      waiting->held = false;  // lives on for a lease, whether its stream still does or not
      core_.sessions().Renew(*waiting, core_.now());
    }
    if (held.channel != nullptr) ready.push_back(std::move(held));
  }
  held_.clear();
  return ready;
}

}  // namespace cairn::master

#include "tests/sim/service/history.h"

#include <algorithm>
#include <cstdlib>

namespace cairn::sim::service {
namespace {

// A disk stalls for up to 8 s, a session lives 4 s beyond its client.
constexpr int64_t kTailMs = 15'000;

std::string Name(InodeId inode) { return "inode " + std::to_string(inode.value()); }
std::string Name(uint64_t token) {
  return "write " + std::to_string(token & 0xFFFFFFFF) + " of " + NodeName(static_cast<NodeId>(token >> 32));
}

}  // namespace

// --- Disks ---

void History::OnReplicaChanged(ServerId server, ChunkId chunk, const Replica* before, const Replica* after) {
  if (after == nullptr) return;
  Chunk& each = chunks_[chunk];
  const Stamp stamp = after->state.accepted;
  const auto [at, fresh] = each.at.try_emplace(stamp, after->content);
  if (!fresh && at->second != after->content) {
    Fail("chunk " + ToString(chunk) + ": " + ToString(server) + " holds other content at " + ToString(stamp) +
         " than was there before");
  }
  if (before != nullptr && stamp < before->state.accepted) {
    Fail("chunk " + ToString(chunk) + ": " + ToString(server) + " went back from " +
         ToString(before->state.accepted) + " to " + ToString(stamp));
  }
}

void History::OnMutationApplied(ChunkId chunk, Epoch epoch, NodeId writer) {
  const auto [known, fresh] = chunks_[chunk].writers.try_emplace(epoch, writer);
  if (!fresh && known->second != writer) {
    Fail("chunk " + ToString(chunk) + ": " + NodeName(writer) + " and " + NodeName(known->second) +
         " both write in epoch " + ToString(epoch));
  }
}

void History::OnMemoryLoss(ServerId) { ++memory_losses_; }

// --- Files ---

void History::OnWritten(InodeId inode, uint64_t token, NodeId client) {
  world_.Trace(Name(token) + " in " + Name(inode) + " is finished");
  File& file = files_[inode];
  file.tokens[token] = {.client = client, .place = file.order.size()};
  file.order.push_back(token);
}
void History::OnAcknowledged(InodeId inode, uint64_t token) {
  world_.Trace(Name(token) + " in " + Name(inode) + " is on W replicas");
  files_[inode].tokens.at(token).acknowledged = true;
}
void History::OnFsynced(InodeId inode, uint64_t token) {
  files_[inode].tokens.at(token).acknowledged = true;
  files_[inode].tokens.at(token).fsynced = true;
}
void History::OnToldLost(InodeId inode, uint64_t token) {
  Token& lost = files_[inode].tokens.at(token);
  lost.told_lost = true;
}
void History::OnClientLost(NodeId client) {
  client_lost_at_ = world_.now();
  LookAtTail();
  for (auto& [inode, file] : files_) OnLeaseLost(inode, client);
}
void History::OnLeaseLost(InodeId inode, NodeId client) {
  for (auto& [token, state] : files_[inode].tokens) {
    if (state.client == client && !state.acknowledged) state.excused = true;
  }
}

void History::OnMasterPowerLoss() {
  master_lost_at_ = world_.now();
  LookAtTail();
}

// What the master's log had not on disk is brought back by clients, unless they went about the same time.
void History::LookAtTail() {
  if (!master_lost_at_ || !client_lost_at_) return;
  if (std::abs(*master_lost_at_ - *client_lost_at_) < kTailMs) tail_lost_ = true;
}

// W is at least two, so one loss of memory loses nothing.
bool History::MayLose() const { return memory_losses_ >= 2 || tail_lost_; }

History::ReadMark History::OnReadStart(InodeId inode) const {
  ReadMark mark{.inode = inode};
  const auto found = files_.find(inode);
  if (found == files_.end()) return mark;
  mark.written = found->second.order.size();
  for (const auto& [token, state] : found->second.tokens) {
    if (state.acknowledged || state.shown) mark.promised.insert(token);
  }
  return mark;
}

void History::OnReadDone(const ReadMark& mark, const Content& content, const std::string& who, bool own) {
  world_.Trace(who + " has read " + std::to_string(content.size()) + " writes of " + Name(mark.inode));
  File& file = files_[mark.inode];
  size_t next = 0;
  for (uint64_t token : content) {
    const auto found = file.tokens.find(token);
    if (found == file.tokens.end())
      return Fail("promise 2: " + who + " read bytes of " + Name(mark.inode) + " that nobody wrote there");
    if (found->second.place < next)
      return Fail("promise 2: " + who + " read " + Name(mark.inode) + " out of order");
    if (found->second.gone)
      return Fail("promise 2: " + who + " read " + Name(token) + " in " + Name(mark.inode) +
                  ", which was missing in an earlier read");
    if (!own) found->second.shown = true;
    next = found->second.place + 1;
  }
  const std::set<uint64_t> shown(content.begin(), content.end());
  for (size_t place = 0; place < mark.written; ++place) {
    const uint64_t token = file.order[place];
    Token& state = file.tokens.at(token);
    if (shown.contains(token) || state.gone) continue;
    const bool promised = mark.promised.contains(token);
    const bool excused = (state.excused && !promised) || (!state.fsynced && (state.told_lost || MayLose()));
    if (!excused) {
      return Fail(std::string(state.fsynced        ? "promise 3: fsynced "
                              : promised           ? "promise 2: acknowledged "
                                                   : "promise of coherence: finished ") +
                  Name(token) + " is missing in " + Name(mark.inode) + " as read by " + who + " (" +
                  std::to_string(content.size()) + " of " + std::to_string(mark.written) + " writes shown)");
    }
    world_.Mark("a write was lost, as it may be");
    state.gone = true;
  }
}

// --- Names ---

size_t History::OnCreateStart(const std::string& name) {
  names_[name].push_back({.create_start = world_.now()});
  if (removes_open_[name] > 0) names_[name].back().remove_start = world_.now();
  return names_[name].size() - 1;
}
void History::OnCreated(const std::string& name, size_t attempt, InodeId inode) {
  Binding& made = names_[name][attempt];
  if (made.inode && made.inode != inode) return Fail("name " + name + ": one create made two files");
  made.inode = inode;
  made.created = world_.now();
}
void History::OnCreateFailed(const std::string& name, size_t attempt) {
  Binding& failed = names_[name][attempt];
  if (!failed.inode) failed.never = true;
}
void History::OnRemoveStart(const std::string& name) {
  ++removes_open_[name];
  for (Binding& binding : names_[name]) {
    if (!binding.remove_start) binding.remove_start = world_.now();
  }
}
void History::OnRemoved(const std::string& name, InodeId inode) {
  for (Binding& binding : names_[name]) {
    if (binding.inode != inode) continue;
    if (binding.removed && !MayLose())
      return Fail("name " + name + ": " + Name(inode) + " was removed twice");
    binding.removed = world_.now();
  }
}

void History::OnLookedUp(const std::string& name, int64_t start, InodeId inode, const std::string& who) {
  std::vector<Binding>& bindings = names_[name];
  if (!inode) {
    for (const Binding& binding : bindings) {
      if (!binding.created || *binding.created > start || binding.remove_start || MayLose()) continue;
      return Fail("promise 7: " + who + " does not find name " + name + ", which leads to " + Name(binding.inode));
    }
    return;
  }
  const auto same = std::find_if(bindings.begin(), bindings.end(),
                                 [inode](const Binding& binding) { return binding.inode == inode; });
  if (same == bindings.end()) {
    // A create whose answer did not arrive.
    const auto open = std::find_if(bindings.begin(), bindings.end(),
                                   [](const Binding& binding) { return !binding.inode && !binding.never; });
    if (open == bindings.end())
      return Fail("promise 7: " + who + " finds " + Name(inode) + " under name " + name + ", made by nobody");
    open->inode = inode;
    return;
  }
  if (same->removed && *same->removed < start && !MayLose())
    return Fail("promise 5: " + who + " finds " + Name(inode) + " under name " + name + ", which was removed");
}

}  // namespace cairn::sim::service

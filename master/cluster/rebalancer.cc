#include "master/cluster/rebalancer.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/core/core.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

constexpr int64_t kPeriodNanos = 200 * kNanosPerMilli;
constexpr int64_t kAutomaticPeriodNanos = 60 * kNanosPerSecond;
constexpr int64_t kSavePeriodNanos = 5 * kNanosPerSecond;
constexpr size_t kMaxRunning = 8;
constexpr size_t kPage = 64;
constexpr size_t kLooksPerTick = 512;
constexpr int kMaxExamples = 10;

std::string Percent(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", value);
  return text;
}

uint64_t RateOf(const proto::RebalanceRecord& record) {
  return record.bytes_per_second() == 0 ? kDefaultMoveRate : record.bytes_per_second();
}

double AutomaticThreshold(const proto::RebalanceRecord& record) {
  return record.automatic_threshold_percent() > 0 ? record.automatic_threshold_percent()
                                                  : kAutomaticThresholdPercent;
}

int MinuteOfDay(int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kNanosPerSecond;
  std::tm local{};
  localtime_r(&seconds, &local);
  return local.tm_hour * 60 + local.tm_min;
}

bool ParseWindow(const std::string& window, int* from, int* to) {
  int from_hour = 0, from_minute = 0, to_hour = 0, to_minute = 0, length = 0;
  if (std::sscanf(window.c_str(), "%2d:%2d-%2d:%2d%n", &from_hour, &from_minute, &to_hour, &to_minute,
                  &length) != 4 ||
      static_cast<size_t>(length) != window.size()) {
    return false;
  }
  const auto valid = [](int hour, int minute) {
    return hour >= 0 && hour < 24 && minute >= 0 && minute < 60;
  };
  if (!valid(from_hour, from_minute) || !valid(to_hour, to_minute)) return false;
  *from = from_hour * 60 + from_minute;
  *to = to_hour * 60 + to_minute;
  return true;
}

BalanceChunk ChunkOf(ChunkId chunk, const proto::ChunkRecord& record, const proto::Policy& policy,
                     const ServerRegistry& servers) {
  BalanceChunk out{.chunk = chunk, .bytes = record.length(), .members = {}, .may_take = {}};
  for (uint32_t member : record.members()) out.members.push_back(ServerId(member));
  auto domain = ParseFailureDomain(policy.failure_domain());
  if (domain.ok()) out.domain = *domain;
  out.scatter_width = policy.scatter_width();
  if (!policy.storage_class().empty()) {
    out.may_take.emplace();
    out.in_class.emplace();
    for (const PlacementServer& place : servers.ForPlacement(policy.storage_class())) {
      if (place.in_class) out.in_class->insert(place.server);
      if (place.in_class && !place.full && place.free_bytes >= out.bytes) out.may_take->insert(place.server);
    }
  }
  return out;
}

}  // namespace

Status CheckWindow(const std::string& window) {
  int from = 0, to = 0;
  if (window.empty() || ParseWindow(window, &from, &to)) return Status::Ok();
  return {StatusCode::kInvalidArgument, "'" + window + "' is no window; for example 22:00-06:00"};
}

bool InWindow(const std::string& window, int minute) {
  int from = 0, to = 0;
  if (window.empty() || !ParseWindow(window, &from, &to) || from == to) return true;
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

proto::RebalancePlan PlanRebalance(const MetaReader& reader, const ServerRegistry& servers,
                                   const BalanceScope& scope, double threshold_percent,
                                   uint64_t bytes_per_second, uint64_t measured_bytes_per_second) {
  proto::RebalancePlan plan;
  plan.set_scope(scope.Text(reader));
  BalanceModel model(scope.Servers(servers), threshold_percent);
  std::map<ServerId, ChunkId> cursors;
  std::set<ChunkId> moved;
  uint32_t fewest = UINT32_MAX;
  while (const auto source = model.Source()) {
    ChunkId& cursor = cursors[*source];
    const std::vector<ChunkId> page = ChunksOfServer(reader, *source, cursor, kPage);
    if (page.empty()) {
      model.Exhausted(*source);
      continue;
    }
    for (ChunkId chunk : page) {
      cursor = chunk;
      if (model.Source() != source) break;
      auto record = ChunkRecordOf(reader, chunk);
      if (!record || record->state() != proto::CHUNK_SEALED || record->length() == 0 || moved.contains(chunk))
        continue;
      auto policy = EffectivePolicy(reader, InodeId(record->inode()));
      if (!policy.ok() || !scope.Covers(reader, *record, *policy)) continue;
      const BalanceChunk one = ChunkOf(chunk, *record, *policy, servers);
      const auto target = model.Target(*source, one);
      if (!target) continue;
      model.Move(*source, *target, one.bytes);
      moved.insert(chunk);
      fewest = std::min<uint32_t>(fewest, static_cast<uint32_t>(record->carriers_size()));
      plan.set_moves(plan.moves() + 1);
      plan.set_bytes(plan.bytes() + one.bytes);
      if (plan.examples_size() < kMaxExamples) {
        proto::PlannedMove* move = plan.add_examples();
        move->set_chunk(chunk.value());
        move->set_from(source->value());
        move->set_to(target->value());
        move->set_bytes(one.bytes);
      }
    }
  }
  if (fewest != UINT32_MAX) plan.set_fewest_copies(fewest);
  for (const auto& [id, use] : model.use()) {
    proto::ServerUse* server = plan.add_servers();
    server->set_server(id.value());
    server->set_capacity_bytes(use.capacity);
    server->set_used_bytes(use.before);
    server->set_used_after(use.used);
    server->set_moves_out(use.moves_out);
    server->set_moves_in(use.moves_in);
  }
  plan.set_limited_by(model.LimitedBy());
  uint64_t rate = bytes_per_second == 0 ? kDefaultMoveRate : bytes_per_second;
  if (measured_bytes_per_second > 0) rate = std::min(rate, measured_bytes_per_second);
  if (plan.bytes() > 0) plan.set_eta_seconds(plan.bytes() / rate + 1);
  return plan;
}

proto::RebalanceRecord& Rebalancer::Record() {
  if (!record_) {
    record_ = Load<proto::RebalanceRecord>(core_.txn(), Family::kMeta, keys::kRebalance)
                  .value_or(proto::RebalanceRecord());
    if (record_->state().empty()) record_->set_state("idle");
  }
  return *record_;
}

void Rebalancer::Save() {
  proto::LogCommand command;
  *command.mutable_set_rebalance()->mutable_record() = Record();
  core_.Apply(command);
  dirty_ = false;
  next_save_ns_ = core_.now() + kSavePeriodNanos;
}

void Rebalancer::Start(bool by_hand, const proto::RebalanceScope& scope, double threshold,
                       uint64_t planned_bytes, const std::string& by) {
  proto::RebalanceRecord& record = Record();
  record.set_state("running");
  record.set_by_hand(by_hand);
  *record.mutable_scope() = scope;
  record.set_threshold_percent(threshold);
  record.set_number(record.number() + 1);
  record.set_operator_(by);
  *record.mutable_started() = core_.TimeNow();
  record.set_moved_chunks(0);
  record.set_moved_bytes(0);
  record.set_planned_bytes(planned_bytes);
  model_.reset();
  Save();
  const std::string limit = Scope().Text(core_.txn());
  core_.events().Add(Severity::kInfo, "rebalance.started",
                     std::string(by_hand ? "rebalancing by hand" : "automatic rebalancing") +
                         (limit.empty() ? "" : " (" + limit + ")") + ", until all servers are within " + Percent(threshold) + " of the mean, at most " +
                         std::to_string(RateOf(record) >> 20) + " MiB/s",
                     {.by = by});
}

void Rebalancer::Finish(const std::string& how) {
  proto::RebalanceRecord& record = Record();
  record.set_state("idle");
  Save();
  core_.events().Add(Severity::kInfo, "rebalance.finished",
                     how + ": " + std::to_string(record.moved_chunks()) + " chunks moved (" +
                         std::to_string(record.moved_bytes() >> 20) + " MiB)");
  model_.reset();
  ++round_;
  next_automatic_ns_ = core_.now() + kAutomaticPeriodNanos;
}

Status Rebalancer::Change(const proto::RebalanceRequest& request, uint64_t planned_bytes) {
  proto::RebalanceRecord& record = Record();
  CAIRN_RETURN_IF_ERROR(CheckWindow(request.window()));
  switch (request.action()) {
    case proto::REBALANCE_APPLY: {
      if (record.state() == "paused")
        return {StatusCode::kFailedPrecondition, "rebalancing is paused; resume or cancel it first"};
      const double threshold =
          request.has_threshold_percent() ? request.threshold_percent() : kPlanThresholdPercent;
      // What was planned beside the core may have changed since.
      CAIRN_RETURN_IF_ERROR(BalanceScope(request.scope()).Check(core_.txn(), core_.servers()));
      if (request.has_bytes_per_second()) record.set_bytes_per_second(request.bytes_per_second());
      if (request.has_window()) record.set_window(request.window());
      Start(true, request.scope(), threshold, planned_bytes, request.operator_());
      return Status::Ok();
    }
    case proto::REBALANCE_PAUSE:
      if (record.state() == "paused") return Status::Ok();
      record.set_state("paused");
      break;
    case proto::REBALANCE_RESUME:
      if (record.state() != "paused") return {StatusCode::kFailedPrecondition, "rebalancing is not paused"};
      record.set_state("running");
      model_.reset();
      break;
    case proto::REBALANCE_CANCEL:
      if (record.state() == "idle") return {StatusCode::kFailedPrecondition, "no rebalancing runs"};
      Finish("cancelled by " + request.operator_());
      return Status::Ok();
    case proto::REBALANCE_SET:
      if (request.has_bytes_per_second()) record.set_bytes_per_second(request.bytes_per_second());
      if (request.has_automatic()) record.set_automatic_off(!request.automatic());
      if (request.has_window()) record.set_window(request.window());
      if (request.has_threshold_percent())
        record.set_automatic_threshold_percent(request.threshold_percent());
      break;
    default:
      return Status::Ok();
  }
  Save();
  core_.events().Add(Severity::kInfo, "rebalance.changed",
                     "rebalancing is " + record.state() + ", at most " +
                         std::to_string(RateOf(record) >> 20) + " MiB/s, automatic " +
                         (record.automatic_off() ? "off" : "on") +
                         (record.window().empty() ? "" : ", within " + record.window()),
                     {.by = request.operator_()});
  return Status::Ok();
}

void Rebalancer::FillStatus(proto::RebalanceStatus* status) {
  const proto::RebalanceRecord& record = Record();
  status->set_state(record.state());
  status->set_by_hand(record.by_hand());
  status->set_automatic(!record.automatic_off());
  status->set_threshold_percent(record.threshold_percent());
  status->set_automatic_threshold_percent(AutomaticThreshold(record));
  status->set_bytes_per_second(RateOf(record));
  status->set_effective_bytes_per_second(record.state() == "running" ? effective_rate_ : 0);
  status->set_yielding(record.state() == "running" ? yielding_ : "");
  status->set_window(record.window());
  status->set_in_window(InWindow(record.window(), MinuteOfDay(core_.wall())));
  status->set_moves_running(running_);
  status->set_moved_chunks(record.moved_chunks());
  status->set_moved_bytes(record.moved_bytes());
  status->set_planned_bytes(record.planned_bytes());
  status->set_scope(Scope().Text(core_.txn()));
  status->set_spread_percent(BalanceModel(Scope().Servers(core_.servers()), 0).SpreadPercent());
  status->set_started_unix_ms(static_cast<uint64_t>(record.started().seconds()) * 1000);
  status->set_number(record.number());
}

std::string Rebalancer::Hindered() {
  if (!core_.repair().settled()) return "the servers have not all reported since the master started";
  const RepairManager::Counters repair = core_.repair().counters();
  if (repair.below_policy > 0)
    return std::to_string(repair.below_policy) + " chunks have too few copies: their repair comes first";
  if (!InWindow(Record().window(), MinuteOfDay(core_.wall())))
    return "outside of the window " + Record().window();
  return {};
}

void Rebalancer::Tick() {
  if (core_.now() < next_ns_) return;
  next_ns_ = core_.now() + kPeriodNanos;
  proto::RebalanceRecord& record = Record();
  if (dirty_ && core_.now() >= next_save_ns_) Save();
  if (record.state() == "paused") return;
  if (record.state() == "idle") {
    ConsiderAutomatic();
    return;
  }
  Run();
}

void Rebalancer::ConsiderAutomatic() {
  if (Record().automatic_off() || core_.now() < next_automatic_ns_) return;
  next_automatic_ns_ = core_.now() + kAutomaticPeriodNanos;
  if (!Hindered().empty()) return;
  const double threshold = AutomaticThreshold(Record());
  if (BalanceModel(BalanceScope().Servers(core_.servers()), threshold).Balanced()) return;
  // To half of what starts it, so that it does not start again with the next file.
  Start(false, {}, threshold / 2, 0, "");
}

void Rebalancer::Run() {
  uint32_t load = 0;
  for (const auto& [id, server] : core_.servers().all()) {
    if (server.up) load = std::max(load, server.load);
  }
  effective_rate_ = governor_.Update(RateOf(Record()), load, core_.now());
  yielding_ = Hindered();
  if (!yielding_.empty()) return;
  if (effective_rate_ < RateOf(Record()))
    yielding_ = "the busiest server's load is " + std::to_string(load / 10) + " %";
  const std::vector<BalanceServer> servers = Scope().Servers(core_.servers());
  if (!model_ || !model_->SameServers(servers)) {
    model_.emplace(servers, Record().threshold_percent());
    cursors_.clear();
    ++round_;
  }
  while (running_ < kMaxRunning && governor_.MayStart() && StartOne()) {
  }
  if (running_ == 0 && !model_->Source()) {
    const std::string limit = model_->LimitedBy();
    Finish(limit.empty() ? "balanced" : "as even as it gets, because " + limit);
  }
}

bool Rebalancer::StartOne() {
  size_t looks = 0;
  const BalanceScope scope = Scope();
  while (const auto source = model_->Source()) {
    ChunkId& cursor = cursors_[*source];
    const std::vector<ChunkId> page = ChunksOfServer(core_.txn(), *source, cursor, kPage);
    if (page.empty()) {
      model_->Exhausted(*source);
      continue;
    }
    for (ChunkId chunk : page) {
      if (++looks > kLooksPerTick) return false;  // goes on with the next tick
      auto record = ChunkRecordOf(core_.txn(), chunk);
      const bool movable = record && record->state() == proto::CHUNK_SEALED && record->length() > 0;
      auto policy = movable ? EffectivePolicy(core_.txn(), InodeId(record->inode()))
                            : Result<proto::Policy>(Status(StatusCode::kNotFound, "no such chunk"));
      if (!policy.ok() || !scope.Covers(core_.txn(), *record, *policy)) {
        cursor = chunk;
        continue;
      }
      const BalanceChunk one = ChunkOf(chunk, *record, *policy, core_.servers());
      const auto target = model_->Target(*source, one);
      if (!target) {
        cursor = chunk;
        continue;
      }
      const auto started = core_.repair().Move(
          chunk, *source, *target,
          "rebalancing: " + ToString(*source) + " is fuller than " + ToString(*target),
          [this, round = round_, from = *source, to = *target, bytes = one.bytes](bool ok) {
            --running_;
            if (ok) {
              Record().set_moved_chunks(Record().moved_chunks() + 1);
              Record().set_moved_bytes(Record().moved_bytes() + bytes);
              dirty_ = true;
            } else if (round == round_ && model_) {
              model_->Undo(from, to, bytes);
            }
          });
      if (started == RepairManager::MoveStart::kNoPlace)
        return false;  // the same chunk again when a place is free
      cursor = chunk;
      if (started == RepairManager::MoveStart::kNotNow) continue;
      ++running_;
      model_->Move(*source, *target, one.bytes);
      governor_.Charge(one.bytes);
      return true;
    }
  }
  return false;
}

}  // namespace cairn::master

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <set>

#include "common/admin_token.h"
#include "master/cluster/commander.h"
#include "master/cluster/impact.h"
#include "master/cluster/rebalancer.h"
#include "master/cluster/server_selection.h"
#include "master/core/admin.h"
#include "master/core/core.h"
#include "master/core/file_locks.h"
#include "master/service/admin_worker.h"
#include "master/service/metadata_checks.h"
#include "master/service/services.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/state_machine.h"
// The generated services hide methods of their own bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#include "proto/cairn/admin.grpc.pb.h"
#pragma GCC diagnostic pop

namespace cairn::master {
namespace {

grpc::Status Busy() { return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls wait; try again"}; }

class AdminServiceImpl final : public proto::AdminService::CallbackService {
 public:
  AdminServiceImpl(Core* core, std::string token) : core_(core), token_(std::move(token)), checks_(core) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const proto::StatusRequest* request,
                                   proto::StatusResponse* response) override {
    return Ask(context, [response](Core& core, auto finish) {
      FillStatus(core, response);
      finish();
    });
  }

  grpc::ServerUnaryReactor* Sessions(grpc::CallbackServerContext* context,
                                     const proto::SessionsRequest* request,
                                     proto::SessionsResponse* response) override {
    return Ask(context, [request, response](Core& core, auto finish) {
      FillSessions(core, request->with_leases(), response);
      finish();
    });
  }

  grpc::ServerUnaryReactor* ExplainChunk(grpc::CallbackServerContext* context,
                                         const proto::ExplainChunkRequest* request,
                                         proto::ExplainChunkResponse* response) override {
    return AskFor(context, &master::ExplainChunk, request, response);
  }

  grpc::ServerUnaryReactor* AcceptLoss(grpc::CallbackServerContext* context,
                                       const proto::AcceptLossRequest* request,
                                       proto::AcceptLossResponse* response) override {
    if (auto* refused = Refused(context)) return refused;
    return AskFor(context, &master::AcceptLoss, request, response);
  }

  grpc::ServerUnaryReactor* Locks(grpc::CallbackServerContext* context, const proto::LocksRequest* request,
                                  proto::LocksResponse* response) override {
    return AskFor(context, &ListLocks, request, response);
  }

  grpc::ServerUnaryReactor* BreakLocks(grpc::CallbackServerContext* context,
                                       const proto::BreakLocksRequest* request,
                                       proto::BreakLocksResponse* response) override {
    if (auto* refused = Refused(context)) return refused;
    return AskFor(context, &master::BreakLocks, request, response);
  }

  grpc::ServerUnaryReactor* Fsck(grpc::CallbackServerContext* context, const proto::FsckRequest* request,
                                 proto::FsckResponse* response) override {
    if (request->mode() == proto::FSCK_REPAIR) {
      if (auto* refused = Refused(context)) return refused;
    }
    // Beside the core: a check reads a snapshot and must not hold up anybody.
    auto* reactor = context->DefaultReactor();
    checks_.Page(*request, [response, reactor](proto::FsckResponse answer) {
      *response = std::move(answer);
      reactor->Finish(grpc::Status::OK);
    });
    return reactor;
  }

  grpc::ServerUnaryReactor* ChangeServer(grpc::CallbackServerContext* context,
                                         const proto::ChangeServerRequest* request,
                                         proto::ChangeServerResponse* response) override {
    if (!request->preview()) {
      if (auto* refused = Refused(context)) return refused;
    }
    return AskImpact(
        context,
        [request, response](Core& core, std::set<ServerId>* gone) {
          const cairn::Status status = CheckServerChange(core, *request);
          *response->mutable_status() = ToProto(status);
          gone->insert(ServerId(request->server()));
          return status.ok();
        },
        response->mutable_impact(),
        [request, response](Core& core) {
          const ServerId id(request->server());
          for (std::string& refusal :
               Refusals(request->action(), id, core.servers().IsUp(id), response->impact())) {
            response->add_refusals(std::move(refusal));
          }
          if (request->preview()) return;
          if (response->refusals_size() > 0 && !request->force()) {
            *response->mutable_status() =
                ToProto(cairn::Status(StatusCode::kFailedPrecondition, "refused: " + response->refusals(0)));
            return;
          }
          *response->mutable_status() =
              ToProto(ApplyServerChange(core, *request, response->impact(), response->mutable_outcome()));
        });
  }

  grpc::ServerUnaryReactor* SetServer(grpc::CallbackServerContext* context, const proto::SetServerRequest* request,
                                      proto::SetServerResponse* response) override {
    if (auto* refused = Refused(context)) return refused;
    return AskNow(context, &master::SetServer, request, response);
  }

  grpc::ServerUnaryReactor* ChangeDisk(grpc::CallbackServerContext* context, const proto::ChangeDiskRequest* request,
                                       proto::ChangeDiskResponse* response) override {
    if (!request->preview()) {
      if (auto* refused = Refused(context)) return refused;
    }
    return AskNow(context, &master::ChangeDisk, request, response);
  }

  grpc::ServerUnaryReactor* LogLevel(grpc::CallbackServerContext* context, const proto::LogLevelRequest* request,
                                     proto::LogLevelResponse* response) override {
    if (auto* refused = Refused(context)) return refused;
    return AskNow(context, &ChangeLogLevel, request, response);
  }

  grpc::ServerUnaryReactor* WhatIf(grpc::CallbackServerContext* context, const proto::WhatIfRequest* request,
                                   proto::WhatIfResponse* response) override {
    return AskImpact(
        context,
        [request, response](Core& core, std::set<ServerId>* gone) {
          const cairn::Status status = ChooseServers(core.servers(), *request, gone);
          *response->mutable_status() = ToProto(status);
          return status.ok();
        },
        response->mutable_impact(), [](Core&) {});
  }

  grpc::ServerUnaryReactor* ServerChunks(grpc::CallbackServerContext* context,
                                         const proto::ServerChunksRequest* request,
                                         proto::ServerChunksResponse* response) override {
    return Ask(context, [this, request, response](Core& core, auto finish) {
      ExplainServerChunks(core, *request, response);
      if (response->status().code() != 0) return finish();
      const bool taken = worker_.Post([this, request, response, finish] {
        const auto snapshot = core_->store().Snapshot();
        const ServerId server(request->server());
        constexpr size_t kPage = 2000;
        for (ChunkId after;;) {
          const std::vector<ChunkId> page = ChunksOfServer(*snapshot, server, after, kPage);
          response->set_chunks(response->chunks() + page.size());
          for (ChunkId chunk : page) {
            if (auto record = ChunkRecordOf(*snapshot, chunk))
              response->set_bytes(response->bytes() + record->length());
          }
          if (page.size() < kPage) break;
          after = page.back();
        }
        const bool posted = core_->Post([response, finish, server](Core& back) {
          FinishServerChunks(back, server, response);
          finish();
        });
        if (!posted) finish(Busy());
      });
      if (!taken) finish(Busy());
    });
  }

  grpc::ServerUnaryReactor* Rebalance(grpc::CallbackServerContext* context,
                                      const proto::RebalanceRequest* request,
                                      proto::RebalanceResponse* response) override {
    if (request->action() != proto::REBALANCE_PLAN && request->action() != proto::REBALANCE_STATUS) {
      if (auto* refused = Refused(context)) return refused;
    }
    return Ask(context, [this, request, response](Core& core, auto finish) {
      const auto answer = [request, response](Core& back) {
        *response->mutable_status() = ToProto(back.rebalancer().Change(*request, response->plan().bytes()));
        back.rebalancer().FillStatus(response->mutable_state());
      };
      if (request->action() != proto::REBALANCE_PLAN && request->action() != proto::REBALANCE_APPLY) {
        answer(core);
        return finish();
      }
      core.rebalancer().FillStatus(response->mutable_state());
      const BalanceScope scope(request->scope());
      if (const cairn::Status checked = scope.Check(core.txn(), core.servers()); !checked.ok()) {
        *response->mutable_status() = ToProto(checked);
        return finish();
      }
      auto servers = std::make_shared<const ServerRegistry>(core.servers());
      const bool taken =
          worker_.Post([this, request, response, answer, scope, servers, finish, speed = CopySpeed(core)] {
            *response->mutable_plan() = PlanRebalance(
                *core_->store().Snapshot(), *servers, scope,
                request->has_threshold_percent() ? request->threshold_percent() : kPlanThresholdPercent,
                request->has_bytes_per_second() ? request->bytes_per_second()
                                                : response->state().bytes_per_second(),
                speed);
            if (request->action() == proto::REBALANCE_PLAN) return finish();
            const bool posted = core_->Post([answer, finish](Core& back) {
              answer(back);
              finish();
            });
            if (!posted) finish(Busy());
          });
      if (!taken) finish(Busy());
    });
  }

  grpc::ServerUnaryReactor* Browse(grpc::CallbackServerContext* context, const proto::BrowseRequest* request,
                                   proto::BrowseResponse* response) override {
    auto* reactor = context->DefaultReactor();
    const bool taken = worker_.Post([this, request, response, reactor] {
      const cairn::Status status = BrowseSnapshot(*core_->store().Snapshot(), *request, response);
      *response->mutable_status() = ToProto(status);
      if (!status.ok()) return reactor->Finish(grpc::Status::OK);
      const bool posted = core_->Post([response, reactor](Core& core) {
        if (const auto refusal = core.RefusalOf(InodeId(response->attr().inode())))
          response->set_last_refusal(ReadableName(*refusal));
        reactor->Finish(grpc::Status::OK);
      });
      if (!posted) reactor->Finish(Busy());
    });
    if (!taken) reactor->Finish(Busy());
    return reactor;
  }

  grpc::ServerUnaryReactor* Events(grpc::CallbackServerContext* context, const proto::EventsRequest* request,
                                   proto::EventsResponse* response) override {
    const auto snapshot = core_->store().Snapshot();
    const EventRange range = EventRangeOf(*snapshot);
    uint64_t after = request->after();
    if (request->newest() > 0 && range.next > request->newest() + 1)
      after = std::max<uint64_t>(after, range.next - 1 - request->newest());
    const uint32_t limit =
        request->max_events() == 0 ? 1000 : std::min<uint32_t>(request->max_events(), 10'000);
    for (const NumberedEvent& event : EventsAfter(*snapshot, after, limit))
      *response->add_events() = ToProto(event);
    response->set_next(response->events_size() == 0 ? after
                                                    : response->events(response->events_size() - 1).number());
    return Answered(context);
  }

  grpc::ServerUnaryReactor* Backup(grpc::CallbackServerContext* context, const proto::BackupRequest* request,
                                   proto::BackupResponse* response) override {
    if (auto* refused = Refused(context)) return refused;
    cairn::Status status;
    if (request->directory().empty() || request->directory().front() != '/') {
      status = cairn::Status(
          StatusCode::kInvalidArgument,
          "a backup needs an absolute directory on the master's machine that does not exist yet");
    } else {
      status = core_->store().Checkpoint(request->directory());
    }
    *response->mutable_status() = ToProto(status);
    response->set_log_index(core_->committed_index());
    response->set_bytes(status.ok() ? core_->store().used_bytes() : 0);
    return Answered(context);
  }

 private:
  static cairn::Status ChooseServers(const ServerRegistry& servers, const proto::WhatIfRequest& request,
                                     std::set<ServerId>* gone) {
    CAIRN_RETURN_IF_ERROR(
        SelectServers(servers, request.servers(), request.racks(), request.zones(), gone));
    if (gone->empty()) return {StatusCode::kInvalidArgument, "name servers, racks or zones"};
    return cairn::Status::Ok();
  }

  // On the core: `choose` says which servers; beside it: the impact of their absence; on the core again:
  // `then`.
  template <typename Choose, typename Then>
  grpc::ServerUnaryReactor* AskImpact(grpc::CallbackServerContext* context, Choose choose,
                                      proto::Impact* impact, Then then) {
    return Ask(context, [this, choose, impact, then](Core& core, auto finish) {
      auto gone = std::make_shared<std::set<ServerId>>();
      if (!choose(core, gone.get())) return finish();
      auto servers = std::make_shared<const ServerRegistry>(core.servers());
      const bool taken = worker_.Post([this, gone, servers, impact, then, finish, speed = CopySpeed(core)] {
        *impact = ComputeImpact(*core_->store().Snapshot(), *servers, *gone, speed);
        const bool posted = core_->Post([then, finish](Core& back) {
          then(back);
          finish();
        });
        if (!posted) finish(Busy());
      });
      if (!taken) finish(Busy());
    });
  }

  // For functions of the core that answer through a callback.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* AskFor(grpc::CallbackServerContext* context,
                                   void (*ask)(Core&, const Request&, std::function<void(Response)>),
                                   const Request* request, Response* response) {
    return Ask(context, [ask, request, response](Core& core, auto finish) {
      ask(core, *request, [response, finish](Response result) {
        *response = std::move(result);
        finish();
      });
    });
  }

  // An answer for whoever may not change anything; null: they may.
  grpc::ServerUnaryReactor* Refused(grpc::CallbackServerContext* context) const {
    if (token_.empty()) return nullptr;
    const auto& metadata = context->client_metadata();
    const auto shown = metadata.find(kAdminTokenMetadata);
    const std::string token = shown == metadata.end() ? "" : std::string(shown->second.data(), shown->second.size());
    if (SameSecret(token, token_)) return nullptr;
    auto* reactor = context->DefaultReactor();
    reactor->Finish({grpc::StatusCode::UNAUTHENTICATED,
                     token.empty() ? "this changes the cluster and needs the administrator's token, which is in 'admin-token' "
                                     "in the master's data directory"
                                   : "that is not the administrator's token of this cluster"});
    return reactor;
  }

  // For functions of the core that answer at once.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* AskNow(grpc::CallbackServerContext* context, Response (*ask)(Core&, const Request&),
                                   const Request* request, Response* response) {
    return Ask(context, [ask, request, response](Core& core, auto finish) {
      *response = ask(core, *request);
      finish();
    });
  }

  // What was answered beside the core.
  static grpc::ServerUnaryReactor* Answered(grpc::CallbackServerContext* context) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  // Runs `call` on the core thread; it calls `finish` when the response is complete, or with why it never
  // will be: an answer that is only empty would pass for "nothing there".
  template <typename Call>
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context, Call call) {
    auto* reactor = context->DefaultReactor();
    auto finish = [reactor](const grpc::Status& status = grpc::Status::OK) { reactor->Finish(status); };
    if (!core_->Post([call, finish](Core& core) { call(core, finish); })) reactor->Finish(Busy());
    return reactor;
  }

  Core* const core_;
  const std::string token_;
  MetadataChecks checks_;
  AdminWorker worker_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(Core* core, std::string token) {
  return std::make_unique<AdminServiceImpl>(core, std::move(token));
}

}  // namespace cairn::master

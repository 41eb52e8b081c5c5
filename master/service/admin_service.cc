#include <chrono>
#include <cstring>
#include <map>
#include <mutex>

#include "master/cluster/commander.h"
#include "master/core/admin.h"
#include "master/core/core.h"
#include "master/core/file_locks.h"
#include "master/service/bidi_stream.h"
#include "master/service/services.h"
#include "master/state/fsck.h"
#include "master/state/state_machine.h"
// The generated services hide methods of their own bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#include "proto/cairn/admin.grpc.pb.h"
#pragma GCC diagnostic pop

namespace cairn::master {
namespace {

constexpr uint32_t kMaxFsckItems = 10'000;
constexpr size_t kMaxChecks = 4;
constexpr auto kCheckExpiry = std::chrono::minutes(5);

grpc::Status Busy() {
  return ToGrpc(Status(StatusCode::kResourceExhausted, "too many calls wait; try again"));
}

// A check of the metadata runs over one snapshot for all its pages: the cursor names the snapshot.
class Checks {
 public:
  proto::FsckResponse Page(MetaStore& store, const proto::FsckRequest& request) {
    std::lock_guard lock(mu_);
    proto::FsckResponse response;
    uint64_t id = 0;
    std::string inner;
    const auto now = std::chrono::steady_clock::now();
    for (auto it = checks_.begin(); it != checks_.end();) {
      it = now - it->second.used > kCheckExpiry ? checks_.erase(it) : std::next(it);
    }
    if (request.cursor().empty()) {
      if (checks_.size() >= kMaxChecks) {
        *response.mutable_status() =
            ToProto(Status(StatusCode::kResourceExhausted, "other checks are running"));
        return response;
      }
      id = next_++;
      checks_[id].reader = store.Snapshot();
    } else if (request.cursor().size() >= sizeof(id)) {
      std::memcpy(&id, request.cursor().data(), sizeof(id));
      inner = request.cursor().substr(sizeof(id));
    }
    auto it = checks_.find(id);
    if (it == checks_.end()) {
      *response.mutable_status() =
          ToProto(Status(StatusCode::kInvalidArgument, "the check was given up meanwhile; start it again"));
      return response;
    }
    it->second.used = now;
    const InodeId inode(request.inode() == 0 ? kRootInode.value() : request.inode());
    const uint32_t items = request.max_items() == 0 ? 1000 : std::min(request.max_items(), kMaxFsckItems);
    auto page = CheckPage(*it->second.reader, inode, inner, items);
    if (!page.ok()) {
      *response.mutable_status() = ToProto(page.status());
      checks_.erase(it);
      return response;
    }
    response = *std::move(page);
    if (response.cursor().empty()) {
      checks_.erase(it);
    } else {
      std::string cursor(reinterpret_cast<const char*>(&id), sizeof(id));
      response.set_cursor(cursor + response.cursor());
    }
    return response;
  }

 private:
  struct Check {
    std::unique_ptr<MetaReader> reader;
    std::chrono::steady_clock::time_point used;
  };
  std::mutex mu_;
  std::map<uint64_t, Check> checks_;  // guarded by mu_
  uint64_t next_ = 1;                 // guarded by mu_
};

class AdminServiceImpl final : public proto::AdminService::CallbackService {
 public:
  explicit AdminServiceImpl(Core* core) : core_(core) {}

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
    return Ask(context, [request, response](Core& core, auto finish) {
      master::ExplainChunk(core, *request, [response, finish](proto::ExplainChunkResponse result) {
        *response = std::move(result);
        finish();
      });
    });
  }

  grpc::ServerUnaryReactor* AcceptLoss(grpc::CallbackServerContext* context,
                                       const proto::AcceptLossRequest* request,
                                       proto::AcceptLossResponse* response) override {
    return Ask(context, [request, response](Core& core, auto finish) {
      master::AcceptLoss(core, *request, [response, finish](proto::AcceptLossResponse result) {
        *response = std::move(result);
        finish();
      });
    });
  }

  grpc::ServerUnaryReactor* Locks(grpc::CallbackServerContext* context, const proto::LocksRequest* request,
                                  proto::LocksResponse* response) override {
    return Ask(context, [request, response](Core& core, auto finish) {
      ListLocks(core, *request, [response, finish](proto::LocksResponse result) {
        *response = std::move(result);
        finish();
      });
    });
  }

  grpc::ServerUnaryReactor* BreakLocks(grpc::CallbackServerContext* context,
                                       const proto::BreakLocksRequest* request,
                                       proto::BreakLocksResponse* response) override {
    return Ask(context, [request, response](Core& core, auto finish) {
      master::BreakLocks(core, *request, [response, finish](proto::BreakLocksResponse result) {
        *response = std::move(result);
        finish();
      });
    });
  }

  grpc::ServerUnaryReactor* Fsck(grpc::CallbackServerContext* context, const proto::FsckRequest* request,
                                 proto::FsckResponse* response) override {
    // Beside the core: a check reads a snapshot and must not hold up anybody.
    *response = checks_.Page(core_->store(), *request);
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* Backup(grpc::CallbackServerContext* context, const proto::BackupRequest* request,
                                   proto::BackupResponse* response) override {
    auto* reactor = context->DefaultReactor();
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
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  // Runs `call` on the core thread; it calls `finish` there when the response is complete.
  template <typename Call>
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context, Call call) {
    auto* reactor = context->DefaultReactor();
    auto finish = [reactor] { reactor->Finish(grpc::Status::OK); };
    if (!core_->Post([call, finish](Core& core) { call(core, finish); })) reactor->Finish(Busy());
    return reactor;
  }

  Core* const core_;
  Checks checks_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(Core* core) {
  return std::make_unique<AdminServiceImpl>(core);
}

}  // namespace cairn::master

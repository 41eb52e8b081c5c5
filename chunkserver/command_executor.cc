#include "chunkserver/command_executor.h"

#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "chunkserver/proto_values.h"
#include "chunkserver/request_handler.h"
#include "common/net/address.h"

namespace cairn::chunkserver {
namespace {

constexpr int kMaxSources = 64;

Result<SyncTask> CheckSync(ChunkId chunk, const proto::SyncCommand& command) {
  SyncTask task;
  task.chunk = chunk;
  task.epoch = Epoch{command.epoch()};
  task.base = FromProto(command.base());
  task.length = command.length();
  task.rate_bytes_per_second = command.rate_bytes_per_s();
  if (task.length > kMaxChunkBytes) {
    return Status(StatusCode::kInvalidArgument,
                  "a sync to a length of " + std::to_string(task.length) + " bytes");
  }
  if (command.sources_size() > kMaxSources) {
    return Status(StatusCode::kInvalidArgument,
                  "a sync names " + std::to_string(command.sources_size()) + " sources");
  }
  for (const proto::ServerAddress& source : command.sources()) {
    const Result<net::HostPort> address = net::ParseHostPort(source.address());
    if (!address.ok()) return address.status();
    task.sources.push_back({ServerId{source.server()}, source.address()});
  }
  return task;
}

}  // namespace

struct CommandExecutor::Batch {
  proto::Command command;
  Done done;
  std::mutex mu;
  proto::CommandResult result;  // guarded by mu
  size_t left = 0;              // guarded by mu; parts of the work that are not finished
};

CommandExecutor::CommandExecutor(DiskSet* disks, Copier* copier, CommandExecutorOptions options)
    : disks_(disks),
      copier_(copier),
      options_(options),
      quick_("commands", options.quick_threads, options.max_queued_chunks),
      syncs_("sync", options.syncs, options.max_queued_chunks) {}

CommandExecutor::~CommandExecutor() { Stop(); }

void CommandExecutor::Stop() {
  copier_->Stop();
  quick_.Stop();
  syncs_.Stop();
}

bool CommandExecutor::ExecuteNow(const proto::Command& command, proto::CommandResult* result) const {
  for (const proto::ChunkCommand& chunk : command.chunks()) {
    if (!chunk.has_prepare_delete() && !chunk.has_abort_delete()) return false;
  }
  result->set_number(command.number());
  for (const proto::ChunkCommand& chunk : command.chunks()) {
    bool wants_flush = false;
    *result->add_results() = ExecuteQuick(chunk, &wants_flush);
  }
  return true;
}

void CommandExecutor::Execute(proto::Command command, Done done) {
  auto batch = std::make_shared<Batch>();
  const auto chunks = static_cast<size_t>(command.chunks_size());
  batch->command = std::move(command);
  batch->done = std::move(done);
  batch->result.set_number(batch->command.number());
  const auto refuse = [](proto::ChunkResult* result) {
    ToProto(Status(StatusCode::kResourceExhausted, "too many commands are queued at this chunkserver"),
            result->mutable_status());
  };
  for (size_t i = 0; i < chunks; ++i) batch->result.add_results();
  if (queued_chunks_.fetch_add(chunks) + chunks > options_.max_queued_chunks) {
    for (auto& result : *batch->result.mutable_results()) refuse(&result);
    batch->left = 1;
    return Finish(batch);
  }
  std::vector<int> syncs;
  for (int i = 0; i < batch->command.chunks_size(); ++i) {
    if (batch->command.chunks(i).has_sync()) syncs.push_back(i);
  }
  const bool any_quick = syncs.size() < chunks;
  batch->left = syncs.size() + (any_quick ? 1 : 0);
  if (batch->left == 0) {
    batch->left = 1;
    return Finish(batch);
  }
  for (int index : syncs) {
    if (!syncs_.TrySubmit([this, batch, index] { RunSync(batch, index); })) {
      {
        std::lock_guard lock(batch->mu);
        refuse(batch->result.mutable_results(index));
      }
      Finish(batch);
    }
  }
  if (any_quick && !quick_.TrySubmit([this, batch] { RunQuick(batch); })) {
    {
      std::lock_guard lock(batch->mu);
      for (int i = 0; i < batch->command.chunks_size(); ++i) {
        if (!batch->command.chunks(i).has_sync()) refuse(batch->result.mutable_results(i));
      }
    }
    Finish(batch);
  }
}

proto::ChunkResult CommandExecutor::ExecuteQuick(const proto::ChunkCommand& command,
                                                 bool* wants_flush) const {
  const ChunkId chunk{command.chunk()};
  replication::ReplicaInfo info;
  info.chunk = chunk;
  Status status;
  bool gone = false;
  if (!chunk) {
    status = Status(StatusCode::kInvalidArgument, "a command names no chunk");
  } else {
    switch (command.kind_case()) {
      case proto::ChunkCommand::kQuery:
        status = disks_->Query(chunk, &info);
        break;
      case proto::ChunkCommand::kFence:
        status = disks_->Fence(chunk, Epoch{command.fence().epoch()}, &info);
        break;
      case proto::ChunkCommand::kBegin:
        status =
            disks_->Begin(chunk, Epoch{command.begin().epoch()}, FromProto(command.begin().base()), &info);
        *wants_flush = status.ok() && command.begin().durable();
        break;
      case proto::ChunkCommand::kSeal:
        status = disks_->Seal(chunk, FromProto(command.seal().stamp()), &info);
        break;
      case proto::ChunkCommand::kPrepareDelete:
        status = disks_->PrepareDelete(chunk, Epoch{command.prepare_delete().epoch()}, &info);
        break;
      case proto::ChunkCommand::kAbortDelete:
        status = disks_->AbortDelete(chunk, Epoch{command.abort_delete().epoch()}, &info);
        break;
      case proto::ChunkCommand::kErase:
        status = disks_->Erase(chunk, Epoch{command.erase().epoch()}, command.erase().quarantine());
        // Already gone: the command was carried out before.
        if (status.code() == StatusCode::kUnknownChunk) status = Status::Ok();
        gone = status.ok();
        break;
      case proto::ChunkCommand::kSync:
      case proto::ChunkCommand::KIND_NOT_SET:
        status = Status(StatusCode::kNotSupported,
                        "this chunkserver does not know the command; it may be too old");
        break;
    }
  }
  if (!gone && !status.ok() && chunk) (void)disks_->Query(chunk, &info);
  info.chunk = chunk;
  proto::ChunkResult result;
  ToProto(status, result.mutable_status());
  ToProto(info, result.mutable_info());
  return result;
}

void CommandExecutor::RunQuick(const std::shared_ptr<Batch>& batch) {
  std::vector<ChunkId> to_flush;
  std::vector<int> flushed;
  for (int i = 0; i < batch->command.chunks_size(); ++i) {
    const proto::ChunkCommand& command = batch->command.chunks(i);
    if (command.has_sync()) continue;
    bool wants_flush = false;
    proto::ChunkResult result = ExecuteQuick(command, &wants_flush);
    if (wants_flush) {
      to_flush.push_back(ChunkId{command.chunk()});
      flushed.push_back(i);
    }
    std::lock_guard lock(batch->mu);
    *batch->result.mutable_results(i) = std::move(result);
  }
  if (!to_flush.empty()) {
    const Status status = disks_->FlushAndWait(to_flush);
    for (size_t i = 0; i < flushed.size(); ++i) {
      replication::ReplicaInfo info;
      const Status known = disks_->Query(to_flush[i], &info);
      std::lock_guard lock(batch->mu);
      proto::ChunkResult* result = batch->result.mutable_results(flushed[i]);
      if (!status.ok()) ToProto(status, result->mutable_status());
      if (known.ok()) ToProto(info, result->mutable_info());
    }
  }
  Finish(batch);
}

void CommandExecutor::RunSync(const std::shared_ptr<Batch>& batch, int index) {
  const proto::ChunkCommand& command = batch->command.chunks(index);
  SyncOutcome outcome;
  const Result<SyncTask> task = CheckSync(ChunkId{command.chunk()}, command.sync());
  if (task.ok()) {
    outcome = copier_->Sync(*task);
  } else {
    outcome.status = task.status();
  }
  outcome.info.chunk = ChunkId{command.chunk()};
  {
    std::lock_guard lock(batch->mu);
    proto::ChunkResult* result = batch->result.mutable_results(index);
    ToProto(outcome.status, result->mutable_status());
    ToProto(outcome.info, result->mutable_info());
    result->set_bytes_transferred(outcome.bytes_transferred);
    result->set_bytes_differing(outcome.bytes_differing);
    result->set_refused_here(outcome.refused_here);
  }
  Finish(batch);
}

void CommandExecutor::Finish(const std::shared_ptr<Batch>& batch) {
  {
    std::lock_guard lock(batch->mu);
    if (--batch->left > 0) return;
  }
  queued_chunks_.fetch_sub(static_cast<size_t>(batch->command.chunks_size()));
  batch->done(std::move(batch->result));
}

}  // namespace cairn::chunkserver

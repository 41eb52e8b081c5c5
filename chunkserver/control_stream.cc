#include "chunkserver/control_stream.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>

#include "chunkserver/outbox.h"
#include "chunkserver/proto_values.h"
#include "common/log.h"
#include "common/net/message_socket.h"
#include "common/wire/frame.h"
#include "proto/cairn/cluster.pb.h"

namespace cairn::chunkserver {
namespace {

constexpr int64_t kConnectMillis = 3'000;
constexpr uint32_t kMinHeartbeatMs = 50;
constexpr uint32_t kMaxHeartbeatMs = 10'000;
constexpr int64_t kTellAgainNanos = 300 * kNanosPerSecond;
constexpr int64_t kDamageRepeatNanos = 10 * kNanosPerSecond;
constexpr size_t kMaxDamageRemembered = 4096;

// A refusal that trying again cannot change.
bool IsFinal(StatusCode code) {
  return code == StatusCode::kWrongCluster || code == StatusCode::kVersionMismatch;
}

// Messages on one connection. The reader answers quick commands itself, beside the writer of everything else.
class Stream {
 public:
  explicit Stream(std::unique_ptr<net::MessageSocket> socket) : socket_(std::move(socket)) {}

  bool Write(const proto::ChunkserverMessage& message) {
    std::lock_guard lock(mu_);
    outgoing_.resize(message.ByteSizeLong());
    return message.SerializeToArray(outgoing_.data(), static_cast<int>(outgoing_.size())) &&
           socket_->Write(outgoing_);
  }
  bool Read(proto::MasterToChunkserver* message) {
    const auto bytes = socket_->Read();
    if (!bytes) return false;
    if (message->ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) return true;
    socket_->Break(Status(StatusCode::kMalformed, "a message of the master does not decode"));
    return false;
  }
  void Cancel() { socket_->Cancel(); }
  Status Why() const {
    const Status end = socket_->end();
    return end.ok() ? Status(StatusCode::kUnavailable, "the master ended the stream") : end;
  }

 private:
  const std::unique_ptr<net::MessageSocket> socket_;
  std::mutex mu_;
  std::vector<std::byte> outgoing_;  // guarded by mu_
};

}  // namespace

class ControlStream::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(DiskSet* disks, ServerIdentity* identity, CommandExecutor* executor, const Clock* clock,
       ControlStreamOptions options, Callbacks callbacks)
      : disks_(disks),
        identity_(identity),
        executor_(executor),
        clock_(clock),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)) {}

  void Start() {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "control");
      Run();
    });
  }

  void Stop() {
    {
      std::lock_guard lock(mu_);
      stopping_ = true;
      if (stream_ != nullptr) stream_->Cancel();
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  bool registered() const { return registered_; }

  void ReportDamage(ChunkId chunk, uint64_t offset, uint64_t length, const std::string& detail) {
    std::shared_ptr<Outbox> outbox;
    {
      std::lock_guard lock(mu_);
      if (!registered_) return;
      const int64_t now = clock_->NowNanos();
      if (damage_told_.size() >= kMaxDamageRemembered) damage_told_.clear();
      const auto [told, first] = damage_told_.emplace(chunk, now);
      if (!first && now - told->second < kDamageRepeatNanos) return;
      told->second = now;
      outbox = outbox_;
    }
    CAIRN_LOG(Error, "chunk {}: damage at {}: {}", ToString(chunk), offset, detail);
    proto::ChunkserverMessage message;
    proto::DamageReport* damage = message.mutable_damage();
    damage->set_chunk(chunk.value());
    damage->set_offset(offset);
    damage->set_length(length);
    damage->set_detail(detail);
    if (outbox) (void)outbox->TryPush(std::move(message));
  }

 private:
  void Run() {
    int64_t backoff_ms = options_.backoff_min_ms;
    size_t turn = 0;
    std::pair<std::string, StatusCode> last_trouble;
    int64_t told_ns = 0;
    while (!Stopping()) {
      const std::string& master = options_.masters[turn++ % options_.masters.size()];
      const int64_t started = clock_->NowNanos();
      const Status ended = OneStream(master);
      if (Stopping()) return;
      if (IsFinal(ended.code()) && !ever_registered_) {
        callbacks_.refused(ended.WithContext("master " + master));
        return;
      }
      // The same trouble is told now and then, not every second for a week.
      const int64_t now = clock_->NowNanos();
      const auto trouble = std::make_pair(master, ended.code());
      if (trouble != last_trouble || was_registered_ || now - told_ns >= kTellAgainNanos) {
        CAIRN_LOG(Warning, "no connection to the master {}: {}; trying again", master, ended.message());
        last_trouble = trouble;
        told_ns = now;
      }
      if (was_registered_ || now - started > 10 * kNanosPerSecond) backoff_ms = options_.backoff_min_ms;
      std::unique_lock lock(mu_);
      wake_.wait_for(lock, std::chrono::milliseconds(backoff_ms), [this] { return stopping_; });
      backoff_ms = std::min(backoff_ms * 2, options_.backoff_max_ms);
    }
  }

  bool Stopping() const {
    std::lock_guard lock(mu_);
    return stopping_;
  }

  // From connecting to the end of the stream; the reason why it ended.
  Status OneStream(const std::string& master) {
    was_registered_ = false;
    CAIRN_ASSIGN_OR_RETURN(auto socket,
                           net::MessageSocket::Connect(master, {.connect_timeout_ms = kConnectMillis,
                                                                .silence_ms = options_.silence_ms,
                                                                .chunkserver = true,
                                                                .give_up = [this] { return Stopping(); }}));
    auto stream = std::make_shared<Stream>(std::move(socket));
    {
      std::lock_guard lock(mu_);
      if (stopping_) return Status(StatusCode::kCancelled, "shutting down");
      stream_ = stream;
    }
    const Status why = Converse(stream);
    stream->Cancel();
    std::lock_guard lock(mu_);
    stream_ = nullptr;
    registered_ = false;
    outbox_.reset();
    return why;
  }

  Status Converse(const std::shared_ptr<Stream>& stream) {
    // What the master sent before it closed says more than a failed write.
    (void)stream->Write(MakeRegister());
    proto::MasterToChunkserver message;
    if (!stream->Read(&message)) return stream->Why();
    if (!message.has_register_reply())
      return Status(StatusCode::kMalformed, "the master's first message is no answer to the registration");
    CAIRN_RETURN_IF_ERROR(TakeRegistration(message.register_reply()));
    const uint32_t heartbeat_ms = std::clamp(
        message.register_reply().heartbeat_ms() == 0 ? 1000 : message.register_reply().heartbeat_ms(),
        kMinHeartbeatMs, kMaxHeartbeatMs);

    auto outbox = std::make_shared<Outbox>(options_.max_queued_messages);
    {
      std::lock_guard lock(mu_);
      outbox_ = outbox;
      registered_ = true;
      damage_told_.clear();
    }
    ever_registered_ = was_registered_ = true;
    std::thread writer([this, stream, outbox, heartbeat_ms] { Write(*stream, outbox.get(), heartbeat_ms); });
    std::thread reporter([this, outbox] { Report(outbox.get()); });
    while (stream->Read(&message)) {
      if (message.has_command()) Execute(*stream, outbox, std::move(*message.mutable_command()));
      if (message.has_heartbeat_reply()) TakeDrains(message.heartbeat_reply().draining_disks());
      if (message.has_set_log_level()) TakeLogLevel(message.set_log_level().level());
    }
    const Status why = stream->Why();
    outbox->Close();
    stream->Cancel();  // a writer that waits for the transport
    writer.join();
    reporter.join();
    return why;
  }

  void Execute(Stream& stream, const std::shared_ptr<Outbox>& outbox, proto::Command command) {
    proto::ChunkserverMessage answer;
    if (executor_->ExecuteNow(command, answer.mutable_result())) {
      if (!stream.Write(answer)) stream.Cancel();
      return;
    }
    executor_->Execute(std::move(command), [outbox](proto::CommandResult result) {
      proto::ChunkserverMessage later;
      *later.mutable_result() = std::move(result);
      (void)outbox->Push(std::move(later));  // a broken stream: the master asks again on the next one
    });
  }

  proto::ChunkserverMessage MakeRegister() const {
    const IdentityValues own = identity_->Get();
    proto::ChunkserverMessage message;
    proto::Register* request = message.mutable_register_();
    request->set_wire_version(wire::kWireVersion);
    if (own.cluster) request->set_cluster_id(own.cluster.ToString());
    request->set_server_uuid(own.server_uuid.ToString());
    request->set_server(own.server.value());
    request->set_data_address(options_.data_address);
    request->set_zone(options_.zone);
    request->set_rack(options_.rack);
    request->set_host_id(options_.host_id);
    request->set_boot_id(own.boot.ToString());
    request->set_incarnation(own.incarnation);
    request->set_version(options_.version);
    for (const DiskStatus& disk : disks_->States()) ToProto(disk, request->add_disks());
    return message;
  }

  Status TakeRegistration(const proto::RegisterReply& reply) {
    CAIRN_RETURN_IF_ERROR(FromProto(reply.status()));
    const IdentityValues own = identity_->Get();
    Uuid cluster;
    const ServerId server{reply.server()};
    if (!Uuid::Parse(reply.cluster_id(), &cluster) || !cluster || !server) {
      return Status(StatusCode::kMalformed, "the master's registration names no cluster or no server id");
    }
    if (own.cluster && (own.cluster != cluster || own.server != server)) {
      return Status(StatusCode::kWrongCluster,
                    "our data belongs to " + ToString(own.server) + " of cluster " + own.cluster.ToString() +
                        ", but the master says " + ToString(server) + " of cluster " + cluster.ToString());
    }
    CAIRN_RETURN_IF_ERROR(disks_->SetIdentity(cluster, own.server_uuid, server));
    missing_disks_taken_ = reply.missing_disks_size() > 0;
    if (reply.missing_disks_size() > 0) {
      std::string missing;
      for (const std::string& disk : reply.missing_disks()) missing += (missing.empty() ? "" : ", ") + disk;
      CAIRN_RETURN_IF_ERROR(disks_->Distrust("this server had further disks, which are not among its data directories (" +
                                             missing + ")"));
    }
    TakeDrains(reply.draining_disks());
    if (reply.epoch_floor() != 0) CAIRN_RETURN_IF_ERROR(disks_->SetEpochFloor(Epoch{reply.epoch_floor()}));
    disks_->MasterAnswered();
    identity_->Join(cluster, server);
    callbacks_.joined(cluster, server);
    CAIRN_LOG(Info, "registered as {} in cluster {}", ToString(server), cluster.ToString());
    return Status::Ok();
  }

  void TakeDrains(const google::protobuf::RepeatedPtrField<std::string>& disks) {
    std::set<Uuid> draining;
    for (const std::string& text : disks) {
      Uuid disk;
      if (Uuid::Parse(text, &disk)) draining.insert(disk);
    }
    disks_->SetDraining(draining);
  }

  static void TakeLogLevel(const std::string& level) {
    if (SetLogLevel(level)) {
      LogLine(LogLevel::kError, "the log level is " + level + " from now on, as the master says");
    } else {
      CAIRN_LOG(Warning, "the master asks for an unknown log level");
    }
  }

  void Report(Outbox* outbox) {
    proto::ChunkserverMessage message;
    bool alive = true;
    uint64_t count = 0;
    const Status status = disks_->ForEach([&](const replication::ReplicaInfo& info) {
      ToProto(info, message.mutable_report()->add_replicas());
      ++count;
      if (static_cast<size_t>(message.report().replicas_size()) >= options_.report_batch) {
        alive = outbox->Push(std::move(message));
        message = {};
      }
      return alive;
    });
    if (!alive) return;
    if (!status.ok()) CAIRN_LOG(Error, "the replica report is incomplete: {}", status.message());
    message.mutable_report()->set_last(status.ok());
    if (outbox->Push(std::move(message))) CAIRN_LOG(Info, "reported {} replicas", count);
  }

  void Write(Stream& stream, Outbox* outbox, uint32_t heartbeat_ms) {
    pthread_setname_np(pthread_self(), "control-out");
    const int64_t interval = heartbeat_ms * kNanosPerMilli;
    int64_t next = clock_->NowNanos();
    uint64_t number = 0;
    while (!outbox->closed()) {
      const int64_t now = clock_->NowNanos();
      bool sent = true;
      if (now >= next) {
        next = now + interval;
        sent = stream.Write(MakeHeartbeat(++number));
      } else if (auto message = outbox->Pop((next - now + kNanosPerMilli - 1) / kNanosPerMilli)) {
        sent = stream.Write(*message);
      }
      if (!sent) {
        stream.Cancel();
        outbox->Close();
        return;
      }
    }
  }

  proto::ChunkserverMessage MakeHeartbeat(uint64_t number) const {
    proto::ChunkserverMessage message;
    proto::Heartbeat* heartbeat = message.mutable_heartbeat();
    heartbeat->set_number(number);
    heartbeat->set_load(callbacks_.load());
    if (callbacks_.traffic) *heartbeat->mutable_traffic() = callbacks_.traffic();
    heartbeat->set_wall_nanos(clock_->WallNanos());
    heartbeat->set_missing_disks_taken(missing_disks_taken_);
    for (const DiskStatus& disk : disks_->States()) ToProto(disk, heartbeat->add_disks());
    return message;
  }

  DiskSet* const disks_;
  ServerIdentity* const identity_;
  CommandExecutor* const executor_;
  const Clock* const clock_;
  const ControlStreamOptions options_;
  const Callbacks callbacks_;

  // Of the control thread.
  bool ever_registered_ = false;
  bool was_registered_ = false;
  bool missing_disks_taken_ = false;  // of this registration; constant while its writer runs
  std::thread thread_;

  mutable std::mutex mu_;
  std::condition_variable wake_;
  bool stopping_ = false;                             // guarded by mu_
  std::shared_ptr<Stream> stream_;                    // guarded by mu_; the present one
  std::shared_ptr<Outbox> outbox_;                    // guarded by mu_
  std::unordered_map<ChunkId, int64_t> damage_told_;  // guarded by mu_
  std::atomic<bool> registered_{false};
};

ControlStream::ControlStream(DiskSet* disks, ServerIdentity* identity, CommandExecutor* executor,
                             const Clock* clock, ControlStreamOptions options, Callbacks callbacks)
    : impl_(std::make_shared<Impl>(disks, identity, executor, clock, std::move(options),
                                   std::move(callbacks))) {}

ControlStream::~ControlStream() { Stop(); }

void ControlStream::Start() { impl_->Start(); }
void ControlStream::Stop() { impl_->Stop(); }
void ControlStream::ReportDamage(ChunkId chunk, uint64_t offset, uint64_t length, const std::string& detail) {
  impl_->ReportDamage(chunk, offset, length, detail);
}
bool ControlStream::registered() const { return impl_->registered(); }

}  // namespace cairn::chunkserver

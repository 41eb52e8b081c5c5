#include "chunkserver/server.h"

#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>

#include "chunkserver/data_metrics.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/net/data_client.h"

namespace cairn::chunkserver {
namespace {

// The address that others are told when none was given: a wildcard is no address, so the host's name takes
// its place.
std::string DefaultAdvertise(const net::HostPort& listen, uint16_t port) {
  net::HostPort result{listen.host, port};
  if (listen.host == "0.0.0.0" || listen.host == "::" || listen.host == "*") {
    char name[256] = {};
    if (gethostname(name, sizeof(name) - 1) == 0 && name[0] != '\0') result.host = name;
  }
  return result.ToString();
}

Uuid BootUuid() {
  Uuid boot;
  if (!Uuid::Parse(BootIdentity(), &boot)) boot = Uuid::Random();
  return boot;
}

}  // namespace

// Asks the disks for their space. Apart from the heartbeats that report it: a disk that is busy for seconds must not make
// its server look dead.
class UsageThread {
 public:
  UsageThread(DiskSet* disks, const Clock* clock) : sleeper_(0, clock) {
    thread_ = std::thread([this, disks] {
      while (sleeper_.Sleep(kNanosPerSecond / 2)) disks->RefreshUsage();
    });
  }
  ~UsageThread() {
    sleeper_.Stop();
    thread_.join();
  }

 private:
  RateLimiter sleeper_;
  std::thread thread_;
};

// Reclaims space now and then.
class MaintenanceThread {
 public:
  MaintenanceThread(DiskSet* disks, int64_t interval_ms, const Clock* clock) : sleeper_(0, clock) {
    thread_ = std::thread([this, disks, interval_ms] {
      while (sleeper_.Sleep(interval_ms * kNanosPerMilli)) {
        // Each call moves a bounded amount. Writers wait for a disk that is short of space: as long as that gives back much, on any of
        // the disks, all of them go on without a pause.
        while (ReclaimAll(disks->stores())) {
        }
      }
    });
  }
  ~MaintenanceThread() {
    sleeper_.Stop();
    thread_.join();
  }

 private:
  static constexpr uint64_t kMuchBytes = 1 << 20;
  static bool IsShortOfSpace(const StoreUsage& usage) { return usage.free_bytes < 2 * usage.reserve_bytes; }
  // Whether a disk that is short of space got much back.
  bool ReclaimAll(const std::vector<ChunkStore*>& stores) {
    bool much = false;
    for (ChunkStore* store : stores) {
      if (sleeper_.stopped()) return false;
      if (store->failed()) continue;
      const Result<uint64_t> freed = store->Reclaim();
      if (!freed.ok()) {
        CAIRN_LOG(Warning, "reclaiming space: {}", freed.status().message());
        continue;
      }
      if (*freed > 0) CAIRN_LOG(Debug, "reclaimed {} bytes", *freed);
      much = much || (*freed >= kMuchBytes && IsShortOfSpace(store->Usage()));
    }
    return much;
  }

  RateLimiter sleeper_;
  std::thread thread_;
};

class ChunkServer::Impl {
 public:
  Impl(ServerOptions options, const Clock* clock) : options_(std::move(options)), clock_(clock) {}
  ~Impl() { Stop(); }

  Status Start(std::vector<Disk> disks, std::function<void(const Status&)> refused) {
    CAIRN_ASSIGN_OR_RETURN(disks_, DiskSet::Make(std::move(disks)));
    const DiskIdentity on_disk = disks_->identity();
    if (on_disk.cluster) disks_->AwaitMaster();  // before anybody can ask; a server that never joined promised nothing
    IdentityValues values{on_disk.cluster, on_disk.server, on_disk.server_uuid, BootUuid(),
                          Uuid::Random().low};
    if (!values.server_uuid) values.server_uuid = Uuid::Random();
    identity_ = std::make_unique<ServerIdentity>(values);
    for (size_t i = 0; i < std::max<size_t>(1, options_.io_threads); ++i) {
      loops_.push_back(std::make_unique<net::EventLoopThread>("data" + std::to_string(i)));
    }
    readers_ = std::make_unique<WorkerPool>("read", std::max<size_t>(1, options_.read_threads), 16'384);
    const DamageSink damage = [this](ChunkId chunk, uint64_t offset, uint64_t length,
                                     const std::string& detail) {
      ReportDamage(chunk, offset, length, detail);
    };
    std::vector<net::EventLoop*> loops;
    for (const auto& loop : loops_) loops.push_back(loop->loop());
    // Fetches from other chunkservers have a loop of their own, so that they do not wait behind writes of clients. Those for clients
    // have connections of their own, too: the addresses that clients name are no reason to break those of syncs.
    peer_loop_ = std::make_unique<net::EventLoopThread>("peers");
    net::DataClientOptions peers;
    peers.kind = wire::PeerKind::kChunkserver;
    peers.cluster = values.cluster;
    peers.name = "chunkserver for copies";
    staging_peers_ = std::make_unique<net::DataClient>(peer_loop_->loop(), peers);
    options_.data.peers = staging_peers_.get();
    service_ = std::make_unique<DataService>(loops, disks_.get(), identity_.get(), readers_.get(), damage,
                                             options_.data);
    CAIRN_RETURN_IF_ERROR(service_->Start(options_.listen));
    address_ =
        options_.advertise.empty() ? DefaultAdvertise(options_.listen, service_->port()) : options_.advertise;

    peers.name = "chunkserver " + address_;
    peers_ = std::make_unique<net::DataClient>(peer_loop_->loop(), peers);
    copier_ = std::make_unique<Copier>(disks_.get(), peers_.get(), clock_, options_.copier);
    executor_ = std::make_unique<CommandExecutor>(disks_.get(), copier_.get(), options_.commands);
    scrubber_ = std::make_unique<Scrubber>(disks_.get(), clock_, damage, options_.scrubber);
    scrubber_->Start();
    drainer_ = std::make_unique<DiskDrainer>(disks_.get(), options_.disk_drain_bytes_per_second, clock_);
    drainer_->Start();
    usage_ = std::make_unique<UsageThread>(disks_.get(), clock_);
    maintenance_ =
        std::make_unique<MaintenanceThread>(disks_.get(), options_.maintenance_interval_ms, clock_);

    ControlStreamOptions control = options_.control;
    control.data_address = address_;
    auto stream = std::make_shared<ControlStream>(
        disks_.get(), identity_.get(), executor_.get(), clock_, std::move(control),
        ControlStream::Callbacks{[this](Uuid cluster, ServerId) {
                                   peers_->SetCluster(cluster);
                                   staging_peers_->SetCluster(cluster);
                                 },
                                 std::move(refused), [this] { return Load(); },
                                 options_.data.metrics == nullptr
                                     ? std::function<proto::Traffic()>()
                                     : [metrics = options_.data.metrics] { return metrics->Traffic(); }});
    {
      std::lock_guard lock(mu_);
      control_ = stream;
    }
    stream->Start();
    return Status::Ok();
  }

  void Stop() {
    if (std::exchange(stopped_, true)) return;
    std::shared_ptr<ControlStream> control;
    {
      std::lock_guard lock(mu_);
      control.swap(control_);
    }
    // First the sources of work, then what does the work, the disks last.
    if (control) control->Stop();
    if (service_) service_->Stop();
    maintenance_.reset();
    usage_.reset();
    drainer_.reset();
    if (scrubber_) scrubber_->Stop();
    if (executor_) executor_->Stop();
    if (readers_) readers_->Stop();
    control.reset();
    executor_.reset();
    copier_.reset();
    peers_.reset();
    staging_peers_.reset();
    if (peer_loop_) peer_loop_->Stop();
    // Answers of flushes are posted to the loops: the disks go while those still run.
    disks_.reset();
    for (const auto& loop : loops_) loop->Stop();
    service_.reset();
    loops_.clear();
  }

  const std::string& data_address() const { return address_; }
  uint16_t port() const { return service_->port(); }
  DiskSet& disks() { return *disks_; }
  Scrubber& scrubber() { return *scrubber_; }
  bool registered() const {
    std::lock_guard lock(mu_);
    return control_ && control_->registered();
  }

 private:
  void ReportDamage(ChunkId chunk, uint64_t offset, uint64_t length, const std::string& detail) {
    std::shared_ptr<ControlStream> control;
    {
      std::lock_guard lock(mu_);
      control = control_;
    }
    if (control) control->ReportDamage(chunk, offset, length, detail);
  }

  // Share of the time that the event loops worked since the last heartbeat.
  uint32_t Load() {
    const int64_t now = clock_->NowNanos();
    int64_t busy = 0;
    for (const auto& loop : loops_) busy += loop->loop()->BusyNanos();
    const int64_t span = (now - load_at_ns_) * static_cast<int64_t>(loops_.size());
    const int64_t used = busy - load_busy_ns_;
    load_at_ns_ = now;
    load_busy_ns_ = busy;
    return span <= 0 ? 0 : static_cast<uint32_t>(std::clamp<int64_t>(used * 1000 / span, 0, 1000));
  }

  ServerOptions options_;
  const Clock* const clock_;
  std::vector<std::unique_ptr<net::EventLoopThread>> loops_;
  std::unique_ptr<DiskSet> disks_;
  std::unique_ptr<ServerIdentity> identity_;
  std::unique_ptr<WorkerPool> readers_;
  std::unique_ptr<DataService> service_;
  std::unique_ptr<net::EventLoopThread> peer_loop_;
  std::unique_ptr<net::DataClient> peers_;
  std::unique_ptr<net::DataClient> staging_peers_;
  std::unique_ptr<Copier> copier_;
  std::unique_ptr<CommandExecutor> executor_;
  std::unique_ptr<Scrubber> scrubber_;
  std::unique_ptr<DiskDrainer> drainer_;
  std::unique_ptr<MaintenanceThread> maintenance_;
  std::unique_ptr<UsageThread> usage_;
  std::string address_;
  bool stopped_ = false;
  int64_t load_at_ns_ = 0;    // of the control stream's writer
  int64_t load_busy_ns_ = 0;  // likewise

  mutable std::mutex mu_;
  std::shared_ptr<ControlStream> control_;  // guarded by mu_
};

ChunkServer::ChunkServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChunkServer::~ChunkServer() = default;

Result<std::unique_ptr<ChunkServer>> ChunkServer::Start(ServerOptions options, std::vector<Disk> disks,
                                                        std::function<void(const Status&)> refused,
                                                        const Clock* clock) {
  auto impl = std::make_unique<Impl>(std::move(options), clock);
  CAIRN_RETURN_IF_ERROR(impl->Start(std::move(disks), std::move(refused)));
  return std::unique_ptr<ChunkServer>(new ChunkServer(std::move(impl)));
}

void ChunkServer::Stop() { impl_->Stop(); }
const std::string& ChunkServer::data_address() const { return impl_->data_address(); }
uint16_t ChunkServer::port() const { return impl_->port(); }
DiskSet& ChunkServer::disks() { return impl_->disks(); }
bool ChunkServer::registered() const { return impl_->registered(); }
Scrubber& ChunkServer::scrubber() { return impl_->scrubber(); }

}  // namespace cairn::chunkserver

// Client::Connect: the parts of a client in production.
#include <unistd.h>

#include <utility>

#include "client/client.h"
#include "client/data/file_data.h"
#include "client/data/scheduler.h"
#include "client/data/seal_gatherer.h"
#include "client/impl/client_impl.h"
#include "common/daemon.h"
#include "common/net/data_client.h"
#include "common/net/event_loop.h"

namespace cairn::client {
namespace {

// What all files of one client share.
struct DataPath {
  explicit DataPath(const ClientOptions& options)
      : dirty(options.dirty_limit_bytes), clean(options.cache_bytes) {}
  ~DataPath() {
    // Requests under way call back into the files: these are gone by now, and the loop stops before what it
    // calls.
    loop.Stop();
  }

  ServerDirectory servers;
  ByteBudget dirty;
  ByteBudget clean;
  DataCounters counters;
  Scheduler scheduler;
  std::unique_ptr<SealGatherer> seals;
  std::unique_ptr<net::DataClient> client;  // destroyed after the loop has stopped
  net::EventLoopThread loop{"data"};
  FileDataContext context;
};

std::string DefaultName() {
  char host[256] = "unknown";
  gethostname(host, sizeof(host) - 1);
  return std::string(host) + ":" + std::to_string(getpid());
}

}  // namespace

Result<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options, CacheListener* listener,
                                                const Clock* clock) {
  auto path = std::make_shared<DataPath>(options);
  ClientParts parts;
  parts.options = options;
  if (parts.options.name.empty()) parts.options.name = DefaultName();
  parts.host_id = HostIdentity();
  parts.connector = MakeFrameConnector();
  parts.servers = &path->servers;
  parts.counters = &path->counters;
  parts.gather_seals = [raw = path.get()](const std::function<void()>& work) {
    const SealGatherer::Hold hold(raw->seals.get());
    work();
  };
  parts.listener = listener;
  parts.clock = clock;
  parts.keep_alive = path;
  parts.make_data_path = [raw = path.get(), clock, options = parts.options, host_id = parts.host_id](
                             const std::string& cluster_id, MasterPort* master, int64_t write_timeout_ms) {
    net::DataClientOptions data_options;
    Uuid::Parse(cluster_id, &data_options.cluster);
    data_options.name = options.name;
    raw->client = std::make_unique<net::DataClient>(raw->loop.loop(), data_options);
    raw->seals = std::make_unique<SealGatherer>(raw->client.get(), &raw->counters.requests);
    raw->context = {.data_client = raw->client.get(),
                    .servers = &raw->servers,
                    .master = master,
                    .clock = clock,
                    .dirty_budget = &raw->dirty,
                    .clean_budget = &raw->clean,
                    .scheduler = &raw->scheduler,
                    .seals = raw->seals.get(),
                    .counters = &raw->counters};
    raw->context.options.window_bytes = options.window_bytes;
    raw->context.options.read_ahead_bytes = options.read_ahead_bytes;
    raw->context.options.write_timeout_ms =
        write_timeout_ms > 0 ? write_timeout_ms : options.write_timeout_ms;
    raw->context.options.host_id = host_id;
    return
        [raw](InodeId inode, uint64_t chunk_bytes) { return MakeFileData(raw->context, inode, chunk_bytes); };
  };
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<ClientImpl> client, ClientImpl::Start(std::move(parts)));
  return std::unique_ptr<Client>(std::move(client));
}

}  // namespace cairn::client

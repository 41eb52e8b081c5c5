// The data plane of a chunkserver: accepts connections, greets, and runs the requests on the disks.
//
// Mutations, seals and begins run at once on the connection's event loop, so they are applied in the order in
// which they arrive. Reads and digests go to a pool, flushes to the disks' group commit: none of these holds
// up the loop. Answers go back when they are ready, in any order.
//
// Bounds: connections, of all and of one host, requests in work and bytes of answers per connection. A connection that reaches one is
// not read from until it is below again. A peer that has not greeted may send nothing but a small greeting,
// and soon. A peer that does not take its answers loses the connection (common/net/slow_readers.h). Bytes that make no sense end the
// connection with a line in the log.
//
// Thread-safety: Start and Stop from one thread; the rest happens on the loops.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/data_metrics.h"
#include "chunkserver/disk_set.h"
#include "chunkserver/request_handler.h"
#include "chunkserver/server_identity.h"
#include "chunkserver/staging_area.h"
#include "chunkserver/worker_pool.h"
#include "common/net/address.h"
#include "common/net/data_client.h"
#include "common/net/event_loop.h"
#include "common/net/slow_readers.h"
#include "common/status.h"

namespace cairn::chunkserver {

struct DataServiceOptions {
  size_t max_connections = 4096;
  size_t max_connections_per_host = 1024;
  size_t max_requests_in_work = 256;    // per connection: reads, digests and flushes not answered yet
  size_t max_answer_bytes = 32u << 20;  // per connection, waiting to be sent or being read
  int64_t greeting_timeout_ms = 10'000;
  int64_t half_frame_timeout_ms = 60'000;   // a frame that does not go on for so long ends its connection
  net::SlowReaderLimits slow_readers;       // of all connections of the service
  size_t pooled_receive_bytes = 64u << 20;  // receive buffers kept for reuse
  int socket_buffer_bytes = 4 << 20;
  DataMetrics* metrics = nullptr;  // counts requests; may be null, else outlives the service
  StagingLimits staging;
  net::DataClient* peers = nullptr;  // to fetch what is to be staged from others; may be null, else outlives the service's work
};

class DataService {
 public:
  // Everything outlives the service. `loops` are running.
  DataService(std::vector<net::EventLoop*> loops, DiskSet* disks, const ServerIdentity* identity,
              WorkerPool* readers, DamageSink damage, DataServiceOptions options);
  ~DataService();  // as Stop

  Status Start(const net::HostPort& where);
  // Ends listening and every connection. Requests in work are finished, their answers dropped.
  void Stop();
  uint16_t port() const;
  size_t connections() const;
  // Fetched for writes that are still to come.
  uint64_t staged_bytes() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace cairn::chunkserver

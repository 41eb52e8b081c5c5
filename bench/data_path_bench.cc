// The data path of the client against real chunk stores, each in a process of its own: no master, no mount.
// Shows what replication itself costs on this machine.
//
//   data_path_bench [DIRECTORY] [MIB] [REPLICAS] [ROUNDS]     defaults: /tmp, 1024, 3, 3
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "chunkserver/data_service.h"
#include "chunkserver/disk_set.h"
#include "chunkserver/store/chunk_store.h"
#include "client/data/file_data.h"
#include "client/data/seal_gatherer.h"
#include "client/data/scheduler.h"
#include "client/data/seal_gatherer.h"
#include "common/net/data_client.h"
#include "common/net/event_loop.h"

namespace cairn {
namespace {

constexpr Uuid kCluster{7, 7};
constexpr uint64_t kChunkBytes = 64ull << 20;
constexpr uint64_t kMiB = 1ull << 20;

struct Child {
  pid_t pid = 0;
  uint16_t port = 0;
};

// Serves until its parent ends it.
[[noreturn]] void Serve(const std::string& directory, ServerId id, int report_fd) {
  std::filesystem::create_directories(directory);
  chunkserver::StoreOptions options;
  options.directory = directory;
  options.cluster = kCluster;
  options.server = id;
  auto store = chunkserver::ChunkStore::Open(options);
  CAIRN_CHECK(store.ok(), store.status().ToString());
  std::vector<chunkserver::Disk> disks(1);
  disks[0].path = directory;
  disks[0].store = *std::move(store);
  auto set = chunkserver::DiskSet::Make(std::move(disks));
  CAIRN_CHECK(set.ok(), set.status().ToString());
  chunkserver::ServerIdentity identity({kCluster, id, Uuid::Random(), Uuid::Random(), 1});
  net::EventLoopThread first("data0"), second("data1");
  chunkserver::WorkerPool readers("read", 4, 16'384);
  chunkserver::DataService service({first.loop(), second.loop()}, set->get(), &identity, &readers,
                                   [](ChunkId, uint64_t, uint64_t, const std::string&) {}, {});
  const Status started = service.Start({"127.0.0.1", 0});
  CAIRN_CHECK(started.ok(), started.ToString());
  const uint16_t port = service.port();
  CAIRN_CHECK(write(report_fd, &port, sizeof(port)) == sizeof(port), "report");
  for (;;) pause();
}

Child Start(const std::string& directory, ServerId id) {
  int fds[2];
  CAIRN_CHECK(pipe(fds) == 0, "pipe");
  Child child;
  child.pid = fork();
  CAIRN_CHECK(child.pid >= 0, "fork");
  if (child.pid == 0) Serve(directory, id, fds[1]);
  CAIRN_CHECK(read(fds[0], &child.port, sizeof(child.port)) == sizeof(child.port),
              "the server did not start");
  close(fds[0]);
  close(fds[1]);
  return child;
}

class BenchMaster final : public client::MasterPort {
 public:
  BenchMaster(uint32_t replicas, uint32_t quorum) : replicas_(replicas), quorum_(quorum) {}
  Result<std::vector<client::ChunkPlace>> Announce(InodeId, Epoch lease, uint64_t first, uint32_t count,
                                                   const std::vector<client::SealedChunk>&) override {
    std::lock_guard lock(mu_);
    std::vector<client::ChunkPlace> places;
    for (uint64_t index = first; index < first + count; ++index) {
      client::ChunkPlace place{.index = index, .chunk = ChunkId(next_chunk_++)};
      place.config = {.epoch = lease, .write_quorum = quorum_};
      for (uint32_t id = 1; id <= replicas_; ++id) place.config.members.push_back(ServerId(id));
      places.push_back(place);
    }
    return places;
  }
  Result<std::vector<client::ChunkPlace>> Layout(InodeId, uint64_t, uint32_t) override {
    return std::vector<client::ChunkPlace>{};
  }
  Result<std::vector<client::ChunkPlace>> ExistingChunks(InodeId, uint64_t, uint32_t) override {
    return std::vector<client::ChunkPlace>{};
  }
  Result<client::ChunkPlace> ChunkTrouble(InodeId, ChunkId, Epoch,
                                          const std::vector<client::MemberFailure>& members, bool) override {
    for (const auto& member : members) {
      std::printf("  trouble: %s %s\n", ToString(member.server).c_str(), member.status.ToString().c_str());
    }
    return Status(StatusCode::kNoQuorum, "the benchmark replaces nobody");
  }

 private:
  const uint32_t replicas_;
  const uint32_t quorum_;
  std::mutex mu_;
  uint64_t next_chunk_ = 1;
};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double CpuSeconds() {
  rusage own{};
  getrusage(RUSAGE_SELF, &own);
  return static_cast<double>(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
         static_cast<double>(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
}

double CpuSecondsOf(const std::vector<Child>& children) {
  double ticks = 0;
  for (const Child& child : children) {
    std::FILE* file = std::fopen(("/proc/" + std::to_string(child.pid) + "/stat").c_str(), "r");
    unsigned long user = 0, system = 0;
    if (file != nullptr) {
      if (std::fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) ==
          2) {
        ticks += static_cast<double>(user + system);
      }
      std::fclose(file);
    }
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

int Main(int argc, char** argv) {
  const std::string base =
      std::string(argc > 1 ? argv[1] : "/tmp") + "/cairn-data-bench." + std::to_string(getpid());
  const uint64_t mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024;
  const auto replicas = static_cast<uint32_t>(argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 3);
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 3;

  std::vector<Child> children;
  for (uint32_t id = 1; id <= replicas; ++id) {
    children.push_back(Start(base + "/cs" + std::to_string(id), ServerId(id)));
  }
  {
    net::EventLoopThread loop("data");
    net::DataClient data_client(loop.loop(), {.cluster = kCluster, .name = "bench"});
    client::Scheduler scheduler;
    client::ServerDirectory directory;
    std::vector<client::ServerEntry> entries;
    for (uint32_t id = 1; id <= replicas; ++id) {
      entries.push_back(
          {.server = ServerId(id), .address = "127.0.0.1:" + std::to_string(children[id - 1].port)});
    }
    directory.Update(entries);
    BenchMaster master(replicas, replicas / 2 + 1);
    client::ByteBudget dirty(128 * kMiB), clean(64 * kMiB);
    client::DataCounters counters;
    client::SealGatherer seals(&data_client, &counters.requests);
    const client::FileDataContext context{.data_client = &data_client,
                                          .servers = &directory,
                                          .master = &master,
                                          .clock = SystemClock::Get(),
                                          .dirty_budget = &dirty,
                                          .clean_budget = &clean,
                                          .scheduler = &scheduler,
                                          .seals = &seals,
                                          .counters = &counters,
                                          .options = {}};
    std::vector<std::byte> buffer(kMiB);
    std::mt19937_64 random(1);
    for (std::byte& byte : buffer) byte = static_cast<std::byte>(random());
    std::printf("%llu MiB, %u replicas, quorum %u\n", static_cast<unsigned long long>(mib), replicas,
                replicas / 2 + 1);

    const auto measure = [&](const char* what, double amount, const char* unit,
                             const std::function<void()>& work) {
      const double cpu = CpuSeconds(), servers = CpuSecondsOf(children), start = Seconds();
      work();
      const double took = Seconds() - start;
      std::printf("  %-22s %8.0f %s   %.2f s; CPU s: client %.2f, servers %.2f\n", what, amount / took, unit,
                  took, CpuSeconds() - cpu, CpuSecondsOf(children) - servers);
      std::fflush(stdout);
    };
    for (int round = 0; round < rounds; ++round) {
      auto file = client::MakeFileData(context, InodeId(1), kChunkBytes);
      file->AttachWrite(Epoch(static_cast<uint64_t>(round) * 1000 + 1), 0, {});
      client::PendingCommit commit;
      measure("write (quorum)", static_cast<double>(mib) * 1.048576, "MB/s", [&] {
        for (uint64_t i = 0; i < mib; ++i) {
          const Status status = file->Write(i * kMiB, buffer, {});
          CAIRN_CHECK(status.ok(), status.ToString());
        }
        const Status status = file->Flush();
        CAIRN_CHECK(status.ok(), status.ToString());
      });
      measure("fsync", 1, "/s", [&] {
        const Status status = file->FlushDurable();
        CAIRN_CHECK(status.ok(), status.ToString());
      });
      measure("seal", 1, "/s", [&] {
        auto sealed = file->FlushAndSeal(nullptr);
        CAIRN_CHECK(sealed.ok(), sealed.status().ToString());
        commit = *sealed;
      });
      const auto read = [&](size_t bytes) {
        for (uint64_t at = 0; at < mib * kMiB; at += bytes) {
          auto got = file->Read(at, std::span(buffer).first(bytes));
          CAIRN_CHECK(got.ok(), got.status().ToString());
        }
      };
      measure("read, 1 MiB calls", static_cast<double>(mib) * 1.048576, "MB/s", [&] { read(kMiB); });
      measure("read, 128 KiB calls", static_cast<double>(mib) * 1.048576, "MB/s", [&] { read(128 << 10); });
      constexpr int kRandom = 5000;
      measure("random 4 KiB reads", kRandom, "/s   ", [&] {
        for (int i = 0; i < kRandom; ++i) {
          const uint64_t block = random() % (mib * 256);
          auto got = file->Read(block * 4096, std::span(buffer).first(4096));
          CAIRN_CHECK(got.ok(), got.status().ToString());
        }
      });
      std::printf("  laggards dropped: %llu, hedged reads: %llu\n",
                  static_cast<unsigned long long>(counters.dropped_members.load()),
                  static_cast<unsigned long long>(counters.hedged_reads.load()));
    }
    constexpr int kAppends = 1000;
    {
      auto file = client::MakeFileData(context, InodeId(90), kChunkBytes);
      file->AttachWrite(Epoch(900'000), 0, {});
      std::vector<double> took(kAppends);
      measure("append 4 KiB + fsync", kAppends, "/s   ", [&] {
        for (int i = 0; i < kAppends; ++i) {
          const double start = Seconds();
          Status status = file->Write(static_cast<uint64_t>(i) * 4096, std::span(buffer).first(4096), {});
          if (status.ok()) status = file->FlushDurable();
          CAIRN_CHECK(status.ok(), status.ToString());
          took[static_cast<size_t>(i)] = Seconds() - start;
        }
      });
      std::sort(took.begin(), took.end());
      std::printf("  %-22s p50 %.0f us, p99 %.0f us\n", "", took[kAppends / 2] * 1e6,
                  took[kAppends * 99 / 100] * 1e6);
    }
    constexpr int kSmall = 2000;
    measure("small files, 4 KiB", kSmall, "/s   ", [&] {
      for (int i = 0; i < kSmall; ++i) {
        auto file = client::MakeFileData(context, InodeId(static_cast<uint64_t>(100 + i)), kChunkBytes);
        file->AttachWrite(Epoch(static_cast<uint64_t>(1'000'000 + i)), 0, {});
        Status status = file->Write(0, std::span(buffer).first(4096), {});
        if (status.ok()) status = file->Flush();
        CAIRN_CHECK(status.ok(), status.ToString());
      }
    });
  }
  for (const Child& child : children) {
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
  }
  std::filesystem::remove_all(base);
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }

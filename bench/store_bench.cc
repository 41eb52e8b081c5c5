// Costs of the chunk store: appends of small and large writes, reads, and a flush after each small write.
// The directory is made under $CAIRN_BENCH_DIR (default: the system's temporary directory).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "common/check.h"
#include "common/checksum.h"

namespace cairn::chunkserver {
namespace {

namespace fs = std::filesystem;

class Bench {
 public:
  Bench() {
    const char* base = std::getenv("CAIRN_BENCH_DIR");
    std::string pattern =
        std::string(base != nullptr ? base : fs::temp_directory_path().c_str()) + "/store_XXXXXX";
    CAIRN_CHECK(mkdtemp(pattern.data()) != nullptr, "cannot make a directory for the benchmark");
    root_ = pattern;
    StoreOptions options;
    options.directory = root_ + "/disk";
    auto opened = ChunkStore::Open(options);
    CAIRN_CHECK(opened.ok(), opened.status().ToString());
    store_ = std::move(*opened);
  }
  ~Bench() {
    store_.reset();
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  ChunkStore& store() { return *store_; }

  // The next mutation of `chunk`, which holds `seq` of them.
  void Write(ChunkId chunk, uint64_t seq, uint64_t offset, const std::vector<std::byte>& data) {
    wire::MutateRequest request;
    request.mutation = {chunk,  Epoch{1},   seq + 1, Stamp{}, replication::MutationKind::kWrite,
                        offset, data.size()};
    if (seq > 0) request.mutation.begin.reset();
    request.checksums = ChecksumRange(chunk, offset, data);
    const Status status = store_->Mutate(request, data, nullptr);
    CAIRN_CHECK(status.ok(), status.ToString());
  }

 private:
  std::string root_;
  std::unique_ptr<ChunkStore> store_;
};

// One chunk per write, as small files make them.
void BM_AppendSmallChunks(benchmark::State& state) {
  Bench bench;
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{7});
  uint64_t id = 0;
  for (auto _ : state) bench.Write(ChunkId{++id}, 0, 0, data);
  state.SetBytesProcessed(static_cast<int64_t>(id) * state.range(0));
}
BENCHMARK(BM_AppendSmallChunks)->Arg(4096)->MinTime(0.5);

// A stream into 64 MiB chunks.
void BM_AppendStream(benchmark::State& state) {
  Bench bench;
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{7});
  const uint64_t per_chunk = (64ull << 20) / data.size();
  uint64_t writes = 0;
  for (auto _ : state) {
    const uint64_t seq = writes % per_chunk;
    bench.Write(ChunkId{writes / per_chunk + 1}, seq, seq * data.size(), data);
    ++writes;
  }
  state.SetBytesProcessed(static_cast<int64_t>(writes) * state.range(0));
}
BENCHMARK(BM_AppendStream)->Arg(64 << 10)->Arg(1 << 20)->MinTime(0.5);

void BM_AppendAndFlush(benchmark::State& state) {
  Bench bench;
  const std::vector<std::byte> data(4096, std::byte{7});
  uint64_t id = 0;
  for (auto _ : state) {
    bench.Write(ChunkId{++id}, 0, 0, data);
    CAIRN_CHECK(bench.store().Flush().ok());
  }
}
BENCHMARK(BM_AppendAndFlush)->MinTime(0.5)->UseRealTime();

void BM_Read(benchmark::State& state) {
  Bench bench;
  const std::vector<std::byte> data(1 << 20, std::byte{7});
  for (uint64_t i = 0; i < 64; ++i) bench.Write(ChunkId{1}, i, i << 20, data);
  wire::ReadRequest request{ChunkId{1}, Stamp{Epoch{1}, 64}, true, 0, static_cast<uint32_t>(state.range(0))};
  int64_t bytes = 0;
  for (auto _ : state) {
    const auto read = bench.store().Read(request, false);
    CAIRN_CHECK(read.ok(), read.status().ToString());
    bytes += static_cast<int64_t>(read->data.size());
    // Jumps over the whole chunk.
    request.offset =
        (request.offset + (37ull << 20) + request.length) % (64ull << 20) / request.length * request.length;
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_Read)->Arg(4096)->Arg(1 << 20)->MinTime(0.5);

}  // namespace
}  // namespace cairn::chunkserver

BENCHMARK_MAIN();

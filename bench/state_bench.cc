// How many commands per second the master's state machine applies over RocksDB, in groups as the master
// commits them (without sync). Argument: commands per group.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>

#include "common/check.h"
#include "master/state/queries.h"
#include "master/state/state_machine.h"
#include "master/store/meta_txn.h"
#include "master/store/rocksdb_store.h"

namespace cairn::master {
namespace {

class Bench {
 public:
  Bench() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cairn-state-bench-XXXXXX").string();
    CAIRN_CHECK(::mkdtemp(pattern.data()) != nullptr, "cannot make a temporary directory");
    directory_ = pattern;
    RocksdbStoreOptions options;
    options.directory = directory_ + "/meta";
    auto opened = OpenRocksdbStore(options);
    CAIRN_CHECK(opened.ok(), opened.status().ToString());
    store_ = std::move(*opened);
    txn_ = std::make_unique<MetaTxn>(store_->Latest());
    Initialize(Now(), txn_.get());
    proto::LogCommand open;
    open.mutable_open_session()->set_session(1);
    Apply(open);
    Commit();
  }
  ~Bench() {
    txn_.reset();
    store_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  void Create(uint64_t number, bool want_write) {
    proto::LogCommand command = Command();
    proto::CreateOp* op = command.mutable_create();
    op->set_parent(kRootInode.value());
    op->set_name(Name(number));
    op->set_mode(0644);
    op->set_want_write(want_write);
    if (want_write) {
      proto::Placement* placement = command.add_placements();
      placement->set_chunk(++next_chunk_);
      for (uint32_t server = 1; server <= 3; ++server) placement->add_servers(server);
    }
    Apply(command);
  }
  void Unlink(uint64_t number) {
    proto::LogCommand command = Command();
    command.mutable_unlink()->set_parent(kRootInode.value());
    command.mutable_unlink()->set_name(Name(number));
    Apply(command);
  }
  void LookUp(uint64_t number) {
    proto::LookupOp op;
    op.set_parent(kRootInode.value());
    op.set_name(Name(number));
    CAIRN_CHECK(Lookup(*txn_, op, proto::Credentials()).ok(), "lookup");
  }
  void Commit() { CAIRN_CHECK(store_->Commit(txn_.get()).ok(), "commit"); }
  MetaTxn& txn() { return *txn_; }

 private:
  static proto::Time Now() {
    proto::Time now;
    now.set_seconds(1'700'000'000);
    return now;
  }
  static std::string Name(uint64_t number) { return "file-" + std::to_string(number); }
  proto::LogCommand Command() {
    proto::LogCommand command;
    *command.mutable_now() = Now();
    command.set_session(1);
    command.set_request_number(++next_request_);
    command.set_acked_through(next_request_ - 1);
    command.set_new_inode(1000 + next_request_);
    command.set_new_epoch(next_request_);
    return command;
  }
  void Apply(const proto::LogCommand& command) {
    const ApplyResult result = machine_.Apply(command, ++log_index_, txn_.get());
    CAIRN_CHECK(result.ok(), result.reply.status().message());
  }

  std::string directory_;
  std::unique_ptr<MetaStore> store_;
  std::unique_ptr<MetaTxn> txn_;
  const StateMachine machine_{};
  uint64_t next_request_ = 0;
  uint64_t next_chunk_ = 0;
  uint64_t log_index_ = 0;
};

void CreateFiles(benchmark::State& state, bool want_write) {
  Bench bench;
  const int64_t group = state.range(0);
  uint64_t number = 0;
  for (auto _ : state) {
    for (int64_t i = 0; i < group; ++i) bench.Create(++number, want_write);
    bench.Commit();
  }
  state.SetItemsProcessed(static_cast<int64_t>(number));
}
void BM_Create(benchmark::State& state) { CreateFiles(state, /*want_write=*/false); }
void BM_CreateForWriting(benchmark::State& state) { CreateFiles(state, /*want_write=*/true); }

void BM_CreateAndUnlink(benchmark::State& state) {
  Bench bench;
  const int64_t group = state.range(0);
  uint64_t number = 0;
  for (auto _ : state) {
    for (int64_t i = 0; i < group; i += 2) {
      bench.Create(++number, true);
      bench.Unlink(number);
    }
    bench.Commit();
  }
  state.SetItemsProcessed(static_cast<int64_t>(number) * 2);
}

void BM_Lookup(benchmark::State& state) {
  Bench bench;
  const auto files = static_cast<uint64_t>(state.range(0));
  for (uint64_t i = 0; i < files; ++i) {
    bench.Create(i, false);
    if (i % 256 == 0) bench.Commit();
  }
  bench.Commit();
  uint64_t number = 0;
  for (auto _ : state) bench.LookUp((number += 7919) % files);
  state.SetItemsProcessed(state.iterations());
}

void BM_ReadDirPlus(benchmark::State& state) {
  Bench bench;
  for (uint64_t i = 0; i < 10'000; ++i) bench.Create(i, false);
  bench.Commit();
  proto::ReadDirOp op;
  op.set_inode(kRootInode.value());
  op.set_max_entries(1000);
  op.set_with_attrs(true);
  for (auto _ : state)
    CAIRN_CHECK(ReadDir(bench.txn(), op, proto::Credentials())->entries_size() == 1000, "readdir");
  state.SetItemsProcessed(state.iterations() * 1000);
}

BENCHMARK(BM_Create)->Arg(1)->Arg(64)->Arg(256);
BENCHMARK(BM_CreateForWriting)->Arg(1)->Arg(64)->Arg(256);
BENCHMARK(BM_CreateAndUnlink)->Arg(64);
BENCHMARK(BM_Lookup)->Arg(100'000);
BENCHMARK(BM_ReadDirPlus);

}  // namespace
}  // namespace cairn::master

BENCHMARK_MAIN();

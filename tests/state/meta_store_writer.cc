// Commits numbered batches to a store on disk until it is killed or has made `count` of them, and prints each
// number once its commit returned. Leaves without closing the store, as a crash does. Usage:
// meta_store_writer DIRECTORY FIRST COUNT
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "master/store/meta_txn.h"
#include "master/store/rocksdb_store.h"

int main(int argc, char** argv) {
  using namespace cairn::master;
  if (argc != 4) return 2;
  RocksdbStoreOptions options;
  options.directory = argv[1];
  options.write_buffer_bytes = 256 << 10;  // so that logs are switched and flushed, too
  auto store = OpenRocksdbStore(options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  MetaTxn txn((*store)->Latest());
  const int first = std::atoi(argv[2]);
  const int count = std::atoi(argv[3]);
  for (int i = first; i < first + count; ++i) {
    char key[16];
    std::snprintf(key, sizeof(key), "%010d", i);
    txn.Put(Family::kInodes, key, std::string(500, static_cast<char>('a' + i % 26)));
    txn.Put(Family::kDentries, key, key);
    if (!(*store)->Commit(&txn).ok()) return 1;
    if (::write(STDOUT_FILENO, &i, sizeof(i)) != sizeof(i)) return 1;
  }
  ::_exit(0);
}

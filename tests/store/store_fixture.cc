#include "tests/store/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace cairn::chunkserver {

namespace fs = std::filesystem;

namespace {

std::string ReadFile(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

Result<FileSystemSpace> TestEnv::Space(const std::string& directory) const {
  CAIRN_ASSIGN_OR_RETURN(FileSystemSpace space, SystemStoreEnv::Space(directory));
  if (free_bytes >= 0) space.free_bytes = static_cast<uint64_t>(free_bytes.load());
  return space;
}

ssize_t TestEnv::Pwritev(int fd, const iovec* parts, int count, int64_t offset) {
  if (write_error != 0) {
    errno = write_error;
    return -1;
  }
  if (write_limit < 0) return SystemStoreEnv::Pwritev(fd, parts, count, offset);
  // A file system gives out whole blocks.
  if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0) write_limit = write_limit / 4096 * 4096;
  ssize_t total = 0;
  for (int i = 0; i < count && write_limit > 0; ++i) {
    const auto take = std::min<int64_t>(write_limit, static_cast<int64_t>(parts[i].iov_len));
    if (pwrite(fd, parts[i].iov_base, static_cast<size_t>(take), offset + total) != take) return -1;
    write_limit -= take;
    total += take;
  }
  if (total == 0) {
    errno = ENOSPC;
    return -1;
  }
  return total;
}

int TestEnv::SyncFile(int fd, SyncPoint point) {
  if (point == SyncPoint::kSmallFile) return SystemStoreEnv::SyncFile(fd, point);
  ++syncs;
  if (const int error = sync_error.exchange(0); error != 0) {
    errno = error;
    return -1;
  }
  const std::string path = fs::read_symlink("/proc/self/fd/" + std::to_string(fd)).string();
  std::string content = ReadFile(path);  // what is written later need not be covered
  const int result = SystemStoreEnv::SyncFile(fd, point);
  std::lock_guard lock(mu_);
  synced_[path] = std::move(content);
  return result;
}

uint64_t TestEnv::SyncedSize(const fs::path& path) { return SyncedContent(path).size(); }

std::string TestEnv::SyncedContent(const fs::path& path) {
  std::lock_guard lock(mu_);
  return synced_[fs::canonical(path).string()];
}

Bytes Pattern(size_t size, uint64_t seed) {
  Bytes data(size);
  uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
  for (std::byte& b : data) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    b = static_cast<std::byte>(x >> 32);
  }
  return data;
}

StoreFixture::StoreFixture() {
  std::string pattern = (fs::temp_directory_path() / "cairn_store_XXXXXX").string();
  root_ = mkdtemp(pattern.data());
  directory_ = root_ + "/disk";
  base_options_.env = &env_;
  base_options_.segment_bytes = 1 << 20;
}

StoreFixture::~StoreFixture() {
  store_.reset();
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

StoreOptions StoreFixture::Options() {
  StoreOptions options = base_options_;
  options.directory = directory_;
  return options;
}

Result<std::unique_ptr<ChunkStore>> StoreFixture::TryOpen() { return ChunkStore::Open(Options()); }

void StoreFixture::OpenStore() {
  auto opened = TryOpen();
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  store_ = std::move(*opened);
}

void StoreFixture::Reopen() {
  store_.reset();
  OpenStore();
}

std::string StoreFixture::CopyDirectory() {
  // The index removes files on its own when it compacts; a copy that missed one is made again.
  for (int tries = 0;; ++tries) {
    const std::string copy = root_ + "/copy" + std::to_string(++copies_);
    std::error_code error;
    fs::copy(directory_, copy, fs::copy_options::recursive, error);
    if (!error) return copy;
    EXPECT_LT(tries, 10) << error.message();
    if (tries >= 10) return copy;
  }
}

void StoreFixture::ContinueWith(const std::string& copy) {
  store_.reset();
  directory_ = copy;
}

Status StoreFixture::Apply(replication::Mutation mutation, const Bytes& data) {
  replication::ReplicaInfo info;
  const Status known = store_->Query(mutation.chunk, &info);
  if (!known.ok() && known.code() != StatusCode::kUnknownChunk) return known;
  mutation.epoch = epoch_;
  mutation.seq = info.accepted.seq + 1;
  if (info.accepted.epoch != epoch_) mutation.begin = info.accepted;
  wire::MutateRequest request;
  request.mutation = mutation;
  request.checksums = ChecksumRange(mutation.chunk, mutation.offset, data);
  return store_->Mutate(request, data, &info);
}

Status StoreFixture::Write(ChunkId chunk, uint64_t offset, const Bytes& data) {
  replication::Mutation mutation;
  mutation.chunk = chunk;
  mutation.offset = offset;
  mutation.length = data.size();
  return Apply(mutation, data);
}

Status StoreFixture::Truncate(ChunkId chunk, uint64_t length) {
  replication::Mutation mutation;
  mutation.chunk = chunk;
  mutation.kind = replication::MutationKind::kTruncate;
  mutation.offset = length;
  return Apply(mutation, {});
}

Status StoreFixture::Zero(ChunkId chunk, uint64_t offset, uint64_t length) {
  replication::Mutation mutation;
  mutation.chunk = chunk;
  mutation.kind = replication::MutationKind::kZero;
  mutation.offset = offset;
  mutation.length = length;
  return Apply(mutation, {});
}

Status StoreFixture::Erase(ChunkId chunk, bool quarantine) {
  return store_->Erase(chunk, Epoch{1'000'000}, quarantine);
}

replication::ReplicaInfo StoreFixture::Info(ChunkId chunk) {
  replication::ReplicaInfo info;
  const Status status = store_->Query(chunk, &info);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return info;
}

bool StoreFixture::Known(ChunkId chunk) {
  replication::ReplicaInfo info;
  return store_->Query(chunk, &info).ok();
}

Result<Bytes> StoreFixture::ReadAll(ChunkId chunk, bool verify, uint32_t step) {
  replication::ReplicaInfo info;
  CAIRN_RETURN_IF_ERROR(store_->Query(chunk, &info));
  Bytes all;
  while (all.size() < info.length) {
    wire::ReadRequest request;
    request.chunk = chunk;
    request.want = info.accepted;
    request.offset = all.size();
    request.length = step;
    CAIRN_ASSIGN_OR_RETURN(const ReadData part, store_->Read(request, verify));
    EXPECT_EQ(part.stamp, info.accepted);
    EXPECT_EQ(part.chunk_length, info.length);
    EXPECT_LE(part.offset, all.size());
    EXPECT_EQ(part.checksums.size(), BlocksTouched(0, part.data.size()));
    for (size_t i = 0; i < part.checksums.size(); ++i) {
      const auto rest = part.data.bytes.subspan(i * kBlockBytes);
      const auto block = rest.first(std::min<size_t>(rest.size(), kBlockBytes));
      if (BlockChecksum(chunk, part.offset / kBlockBytes + i, block) != part.checksums[i]) {
        return Status(StatusCode::kCorrupt, "the reader found a bad block");
      }
    }
    const size_t skip = all.size() - part.offset;
    if (part.data.size() <= skip) return Status(StatusCode::kIoError, "a read made no progress");
    all.insert(all.end(), part.data.bytes.begin() + static_cast<ptrdiff_t>(skip), part.data.bytes.end());
  }
  return all;
}

std::vector<fs::path> StoreFixture::Segments(const std::string& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory + "/segments")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

uint64_t StoreFixture::AllocatedBytes(const std::string& directory) {
  uint64_t bytes = 0;
  for (const fs::path& file : Segments(directory)) {
    struct stat stat {};
    EXPECT_EQ(::stat(file.c_str(), &stat), 0);
    bytes += static_cast<uint64_t>(stat.st_blocks) * 512;
  }
  return bytes;
}

void StoreFixture::FlipByte(const fs::path& file, uint64_t offset) {
  const int fd = open(file.c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  char byte = 0;
  ASSERT_EQ(pread(fd, &byte, 1, static_cast<off_t>(offset)), 1);
  byte = static_cast<char>(byte ^ 0x40);
  ASSERT_EQ(pwrite(fd, &byte, 1, static_cast<off_t>(offset)), 1);
  close(fd);
}

void StoreFixture::LosePages(const fs::path& file, const std::string& synced,
                             const std::function<bool(uint64_t page)>& lost) {
  constexpr uint64_t kPage = 4096;
  const std::string now = ReadFile(file);
  std::string left;
  for (uint64_t at = 0; at < std::max(now.size(), synced.size()); at += kPage) {
    const std::string& from = lost(at / kPage) ? synced : now;
    if (from.size() <= at) continue;
    left.resize(at);
    left += from.substr(at, kPage);
  }
  left.resize(std::max(left.size(), std::min(synced.size(), now.size())));
  std::ofstream(file, std::ios::binary | std::ios::trunc) << left;
}

uint64_t StoreFixture::Find(const fs::path& file, const Bytes& needle) {
  const std::string content = ReadFile(file);
  const std::string text(reinterpret_cast<const char*>(needle.data()), needle.size());
  const size_t at = content.find(text);
  EXPECT_NE(at, std::string::npos);
  return at;
}

}  // namespace cairn::chunkserver

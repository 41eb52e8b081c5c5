#include "cli/copy/copier.h"

#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <thread>

namespace cairn::cli {
namespace {

using client::FileType;

constexpr size_t kBlock = 1 << 20;
constexpr uint64_t kCopyFromBytes = 64ull << 20;  // between two looks whether to stop
constexpr size_t kHoleUnit = 64 << 10;  // zeros are left out in units of this
constexpr size_t kQueueBound = 1024;

bool AllZero(std::span<const std::byte> data) {
  return data.empty() ||
         (data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

// A name beside `path` that fits a directory entry. Stable: the same for every run.
std::string TemporaryName(const std::string& path, bool stable) {
  static std::atomic<uint64_t> counter{0};
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  std::string name = path.substr(directory.size());
  const std::string suffix =
      stable ? ".cairn-part" : ".cairn-cp." + std::to_string(getpid()) + "." + std::to_string(++counter);
  if (name.size() + suffix.size() + 1 > 255) {
    // Long names are told apart by a hash of the whole.
    name = name.substr(0, 200 - suffix.size()) + std::to_string(std::hash<std::string>()(name));
  }
  return directory + "." + name + suffix;
}

}  // namespace

Copier::Copier(Context& context, const CopyOptions& options, Tree& from, Tree& to, bool same_tree,
               Progress& progress)
    : context_(context),
      options_(options),
      from_(from),
      to_(to),
      same_tree_(same_tree),
      progress_(progress),
      umask_([] {
        const mode_t mask = umask(0);
        umask(mask);
        return mask;
      }()) {}

void Copier::Report(const Status& status) {
  std::lock_guard lock(report_mu_);
  context_.Fail(status.WithContext("cp"));
}

void Copier::Run(const std::string& source, const std::string& destination) {
  std::vector<std::thread> workers;
  walked_ = false;
  for (int i = 0; i < options_.jobs; ++i) workers.emplace_back([this] { Worker(); });
  auto info = from_.Stat(source, options_.follow_links);
  if (info.ok()) {
    Walk(source, destination, *info);
  } else {
    Report(info.status());
  }
  progress_.ExpectedIsComplete();
  {
    std::lock_guard lock(mu_);
    walked_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers) worker.join();
  for (const auto& [existing, name] : links_) {
    if (Interrupted()) return;
    const Status status =
        ReplaceWith(name, [&, from = existing, to = name] { return to_.MakeLink(from, to); });
    if (!status.ok()) Report(status);
  }
  links_.clear();
  for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
    const Status status = FinishMetadata(it->source, it->destination, it->info);
    if (!status.ok()) Report(status);
  }
  directories_.clear();
}

// Without recursion, and with one path for each side that grows and shrinks: see cli/files/walk.h.
void Copier::Walk(std::string source, std::string destination, const Info& info) {
  std::vector<Level> levels;
  const auto visit = [&](const Info& found) {
    const Status status = CopyOne(source, destination, found, &levels);
    if (!status.ok()) Report(status);
  };
  visit(info);
  while (!levels.empty() && !Interrupted()) {
    Level& level = levels.back();
    source.resize(level.source_bytes);
    destination.resize(level.destination_bytes);
    if (level.next == level.entries.size()) {
      if (!level.keep_metadata) directories_.push_back({source, destination, level.final_info});
      levels.pop_back();
      continue;
    }
    const auto& [name, entry] = level.entries[level.next++];
    source = JoinPath(source, name);
    destination = JoinPath(destination, name);
    if (options_.follow_links && entry.attr.type == FileType::kSymlink) {
      const auto target = from_.Stat(source, true);
      if (target.ok()) {
        visit(*target);
      } else {
        Report(target.status());
      }
    } else {
      visit(entry);
    }
  }
}

Status Copier::CopyOne(const std::string& source, const std::string& destination, const Info& info,
                       std::vector<Level>* levels) {
  if (options_.keep_hard_links && info.attr.nlink > 1 && info.attr.type != FileType::kDirectory) {
    const auto [it, first] = first_names_.try_emplace({info.device, info.attr.inode}, destination);
    if (!first) {
      links_.emplace_back(it->second, destination);
      return Status::Ok();
    }
  }
  if (info.attr.type == FileType::kDirectory) return EnterDirectory(source, destination, info, levels);
  if (info.attr.type != FileType::kRegular) return CopySpecial(source, destination, info);
  progress_.ExpectMore(1, info.attr.size);
  std::unique_lock lock(mu_);
  room_.wait(lock, [this] { return queue_.size() < kQueueBound; });
  queue_.push_back({source, destination, info});
  lock.unlock();
  work_.notify_one();
  return Status::Ok();
}

Status Copier::EnterDirectory(const std::string& source, const std::string& destination, const Info& info,
                              std::vector<Level>* levels) {
  if (!options_.recursive)
    return {StatusCode::kIsDirectory, from_.Name(source) + ": is a directory (use -r)"};
  if (made_.count({info.device, info.attr.inode}) != 0) {
    return {StatusCode::kInvalidArgument, from_.Name(source) + ": a directory cannot be copied into itself"};
  }
  // Writable while it is filled; its own mode comes last.
  const Status made = to_.MakeDirectory(destination, 0700 | (info.attr.mode & ~umask_ & 0777));
  Level level{.source_bytes = source.size(), .destination_bytes = destination.size(), .final_info = info};
  if (made.code() == StatusCode::kAlreadyExists) {
    CAIRN_ASSIGN_OR_RETURN(const Info present, to_.Stat(destination, true));
    if (present.attr.type != FileType::kDirectory) {
      return {StatusCode::kNotDirectory,
              to_.Name(destination) + ": cannot replace what is not a directory by a directory"};
    }
    level.keep_metadata = !options_.preserve.mode && !options_.preserve.times;
    if (same_tree_) made_.insert({present.device, present.attr.inode});
  } else if (!made.ok()) {
    return made;
  } else if (same_tree_) {
    CAIRN_ASSIGN_OR_RETURN(const Info present, to_.Stat(destination, false));
    made_.insert({present.device, present.attr.inode});
  }
  if (!options_.preserve.mode) level.final_info.attr.mode &= ~umask_ & 0777;
  CAIRN_RETURN_IF_ERROR(from_.ForEach(source, [&](const std::string& name, const Info& entry) {
    level.entries.emplace_back(name, entry);
    return Status::Ok();
  }));
  levels->push_back(std::move(level));
  return Status::Ok();
}

// Runs `make`; when the name is taken by something that is not a directory, replaces that.
Status Copier::ReplaceWith(const std::string& destination, const std::function<Status()>& make) {
  const Status status = make();
  if (status.code() != StatusCode::kAlreadyExists) return status;
  if (options_.no_clobber) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const Info present, to_.Stat(destination, false));
  if (present.attr.type == FileType::kDirectory) {
    return {StatusCode::kIsDirectory, to_.Name(destination) + ": cannot replace a directory"};
  }
  CAIRN_RETURN_IF_ERROR(to_.Remove(destination));
  return make();
}

Status Copier::CopySpecial(const std::string& source, const std::string& destination, const Info& info) {
  if (info.attr.type == FileType::kSymlink) {
    CAIRN_ASSIGN_OR_RETURN(const std::string target, from_.ReadLink(source));
    CAIRN_RETURN_IF_ERROR(ReplaceWith(destination, [&] { return to_.MakeSymlink(destination, target); }));
  } else {
    if (!options_.recursive) {
      return {StatusCode::kNotSupported,
              from_.Name(source) + ": not a regular file (use -r to copy it as what it is)"};
    }
    CAIRN_RETURN_IF_ERROR(ReplaceWith(destination, [&] {
      return to_.MakeNode(destination, info.attr.type, info.attr.mode & ~umask_ & 0777, info.attr.rdev);
    }));
  }
  return FinishMetadata(source, destination, info);
}

Status Copier::FinishMetadata(const std::string& source, const std::string& destination, const Info& info) {
  if (options_.preserve.xattrs && info.attr.type != FileType::kSymlink) {
    CAIRN_ASSIGN_OR_RETURN(const auto xattrs, from_.Xattrs(source));
    for (const auto& [name, value] : xattrs) {
      const Status status = to_.SetXattr(destination, name, value);
      // Attributes that only root may set, or that this file system does not know, are left out as cp -a
      // does.
      if (!status.ok() && status.code() != StatusCode::kNotPermitted &&
          status.code() != StatusCode::kNotSupported && name.compare(0, 5, "user.") == 0) {
        return status;
      }
    }
  }
  Preserve what = options_.preserve;
  if (info.attr.type == FileType::kDirectory)
    what.mode = true;  // it was made writable for the time of the copy
  if (!what.mode && !what.owner && !what.times) return Status::Ok();
  return to_.SetMetadata(destination, info, what);
}

void Copier::Worker() {
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mu_);
      work_.wait(lock, [this] { return !queue_.empty() || walked_; });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    room_.notify_one();
    if (Interrupted()) continue;
    const Status status = CopyFile(task);
    if (!status.ok()) {
      Report(status);
      continue;
    }
    progress_.AddFile();
    std::lock_guard lock(mu_);
    copied_.push_back({task.source, task.destination});
  }
}

// How many bytes at the start of `path` equal the source's, in whole blocks, at most `limit`.
Result<uint64_t> Copier::EqualPrefix(Reader& reader, const std::string& path, uint64_t limit) {
  CAIRN_ASSIGN_OR_RETURN(const auto present, to_.Open(path));
  std::vector<std::byte> a(kBlock), b(kBlock);
  uint64_t at = 0;
  while (at < limit && !Interrupted()) {
    CAIRN_ASSIGN_OR_RETURN(const size_t got, present->Read(at, a));
    CAIRN_ASSIGN_OR_RETURN(const size_t wanted, reader.Read(at, b));
    if (got != wanted || !std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(got), b.begin()))
      break;
    at += got;
    if (got < kBlock) break;
  }
  return at;
}

Status Copier::CopyContent(Reader& reader, Writer& writer, uint64_t size, uint64_t start) {
  uint64_t at = start;
  for (;;) {
    if (Interrupted()) return {StatusCode::kInterrupted, "interrupted"};
    const auto copied = writer.CopyFrom(reader, at, kCopyFromBytes);
    if (!copied) break;  // no such way between these two: it says so at once
    CAIRN_RETURN_IF_ERROR(copied->status());
    if (**copied == 0) return writer.SetSize(at);
    progress_.AddBytes(**copied);
    at += **copied;
  }
  std::vector<std::byte> buffer(kBlock);
  for (;;) {
    if (Interrupted()) return {StatusCode::kInterrupted, "interrupted"};
    if (at < size) {
      CAIRN_ASSIGN_OR_RETURN(const uint64_t data, reader.NextData(at));
      if (data > at) {
        const uint64_t skip = std::min(data, size) - at;
        progress_.AddBytes(skip);
        at += skip;
      }
    }
    CAIRN_ASSIGN_OR_RETURN(const size_t got, reader.Read(at, buffer));
    for (size_t from = 0; from < got; from += kHoleUnit) {
      const size_t take = std::min(kHoleUnit, got - from);
      size_t run = take;
      if (AllZero(std::span(buffer).subspan(from, take))) continue;
      // Extend over following units that hold data, for large writes.
      while (from + run < got &&
             !AllZero(std::span(buffer).subspan(from + run, std::min(kHoleUnit, got - from - run)))) {
        run += std::min(kHoleUnit, got - from - run);
      }
      CAIRN_RETURN_IF_ERROR(writer.Write(at + from, std::span(buffer).subspan(from, run)));
      from += run - take;
    }
    at += got;
    progress_.AddBytes(got);
    if (got < buffer.size()) break;
  }
  return writer.SetSize(at);
}

Status Copier::CopyFile(const Task& task) {
  const auto present = to_.Stat(task.destination, true);
  std::string final_name = task.destination;
  if (present.ok()) {
    if (options_.no_clobber) {
      ++skipped_;
      return Status::Ok();
    }
    if (present->attr.type == FileType::kDirectory) {
      return {StatusCode::kIsDirectory,
              to_.Name(task.destination) + ": cannot replace a directory by a file"};
    }
    if (same_tree_ && present->device == task.info.device && present->attr.inode == task.info.attr.inode) {
      return {StatusCode::kInvalidArgument,
              from_.Name(task.source) + " and " + to_.Name(task.destination) + " are the same file"};
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const auto reader, from_.Open(task.source));
  if (present.ok() && present->attr.type != FileType::kRegular) {  // a device or a pipe: written in place
    CAIRN_ASSIGN_OR_RETURN(const auto writer, to_.Create(final_name, 0644, true));
    CAIRN_RETURN_IF_ERROR(CopyContent(*reader, *writer, task.info.attr.size, 0));
    return writer->Close();
  }
  // Written through a symbolic link, as cp(1) does.
  for (int hops = 0; hops < 40; ++hops) {
    const auto last = to_.Stat(final_name, false);
    if (!last.ok() || last->attr.type != FileType::kSymlink) break;
    CAIRN_ASSIGN_OR_RETURN(const std::string target, to_.ReadLink(final_name));
    const size_t slash = final_name.rfind('/');
    final_name = !target.empty() && target[0] == '/'
                     ? target
                     : final_name.substr(0, slash == std::string::npos ? 0 : slash + 1) + target;
  }
  if (options_.resume && present.ok() && present->attr.size == task.info.attr.size) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t equal, EqualPrefix(*reader, final_name, task.info.attr.size));
    if (equal == task.info.attr.size) {
      progress_.AddBytes(equal);
      ++skipped_;
      return FinishMetadata(task.source, final_name, task.info);
    }
  }

  const std::string temporary = TemporaryName(final_name, options_.resume);
  uint64_t start = 0;
  if (options_.resume) {
    const auto part = to_.Stat(temporary, false);
    if (part.ok()) {
      CAIRN_ASSIGN_OR_RETURN(const uint64_t equal,
                             EqualPrefix(*reader, temporary, std::min(part->attr.size, task.info.attr.size)));
      start = equal / kBlock * kBlock;
      progress_.AddBytes(start);
    }
  }
  // Not readable by others before its content and mode are final; an existing file keeps its mode, as with
  // cp(1).
  const uint32_t mode = present.ok() ? present->attr.mode : task.info.attr.mode & ~umask_ & 0777;
  CAIRN_ASSIGN_OR_RETURN(auto writer,
                         to_.Create(temporary, options_.preserve.mode ? 0600 : mode & 0777, start > 0));
  auto finish = [&]() -> Status {
    if (start > 0) CAIRN_RETURN_IF_ERROR(writer->SetSize(start));
    CAIRN_RETURN_IF_ERROR(CopyContent(*reader, *writer, task.info.attr.size, start));
    CAIRN_RETURN_IF_ERROR(writer->Close());
    CAIRN_RETURN_IF_ERROR(FinishMetadata(task.source, temporary, task.info));
    if (present.ok() && !options_.preserve.mode) {
      Info same;
      same.attr = present->attr;
      CAIRN_RETURN_IF_ERROR(to_.SetMetadata(temporary, same, {.mode = true, .owner = true}));
    }
    return to_.Rename(temporary, final_name);
  };
  const Status status = finish();
  if (status.ok()) return status;
  writer.reset();
  if (!options_.resume) (void)to_.Remove(temporary);  // best effort: the first error is the one to report
  return status;
}

namespace {

Result<std::string> Digest(Tree& tree, const std::string& path, Progress& progress) {
  CAIRN_ASSIGN_OR_RETURN(const auto reader, tree.Open(path));
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (context == nullptr || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return Status(StatusCode::kIoError, "SHA-256 is not available");
  }
  std::vector<std::byte> buffer(kBlock);
  for (uint64_t at = 0;;) {
    if (Interrupted()) return Status(StatusCode::kInterrupted, "interrupted");
    CAIRN_ASSIGN_OR_RETURN(const size_t got, reader->Read(at, buffer));
    EVP_DigestUpdate(context.get(), buffer.data(), got);
    at += got;
    progress.AddBytes(got);
    if (got < buffer.size()) break;
  }
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), &size);
  digest.resize(size);
  return digest;
}

}  // namespace

uint64_t VerifyCopies(Context& context, Tree& from, Tree& to, const std::vector<CopiedFile>& files,
                      Progress& progress) {
  uint64_t different = 0;
  for (const CopiedFile& file : files) {
    const auto source = Digest(from, file.source, progress);
    const auto copy = source.ok() ? Digest(to, file.destination, progress) : source;
    if (copy.code() == StatusCode::kInterrupted) {
      context.Fail(copy.status());
      return different;
    }
    if (!source.ok() || !copy.ok()) {
      context.Fail((source.ok() ? copy : source).status().WithContext("verify"));
      ++different;
    } else if (*source != *copy) {
      context.FailWith(kExitMismatch,
                       "verify: " + to.Name(file.destination) + " differs from " + from.Name(file.source));
      ++different;
    }
    progress.AddFile();
  }
  return different;
}

}  // namespace cairn::cli

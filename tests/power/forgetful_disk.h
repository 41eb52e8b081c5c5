// What a loss of power may leave of a directory: the files of this process are watched at fsync(2) and fdatasync(2), also those of the
// libraries that it uses, and a cut keeps of each name and of each page what was synced last, what there is now, or (by a seed) either.
//
//   ForgetfulDisk disk(directory);          // what is in it already counts as being on disk
//   ... programs write, sync, rename, remove ...
//   disk.Cut(elsewhere, 0);                 // nothing that was not synced; 1: everything; others: any part
//
// A file that was never synced is empty or absent, a directory that is not synced in the one above is gone with all that is in it, a
// name that was removed may be back. Syncs reach no real disk: they are only noted, which is also fast.
//
// Linking this library puts its fsync and fdatasync in the place of those of the C library. Limits: files are not renamed between
// directories; data written through O_DIRECT counts as any other until it is synced.
//
// Thread-safety: programs may sync from any thread; Cut, Copy and the destructor while none of them does. One disk watches a directory.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace cairn::power {

class ForgetfulDisk {
 public:
  explicit ForgetfulDisk(std::string directory);
  ~ForgetfulDisk();
  ForgetfulDisk(const ForgetfulDisk&) = delete;
  ForgetfulDisk& operator=(const ForgetfulDisk&) = delete;

  const std::string& directory() const { return directory_; }
  // `to` must not exist; it becomes what the loss of power left.
  void Cut(const std::string& to, uint64_t seed);
  // A crash of all processes: `to` holds everything, and of that is on disk what was here. Another disk watches it from then on.
  std::unique_ptr<ForgetfulDisk> Copy(const std::string& to);
  // Syncs of paths for which this is true do nothing from now on; empty: none.
  void Ignore(std::function<bool(const std::string& path)> ignored);
  // Paths that were synced while no NamedSync was alive in the thread, without duplicates.
  std::vector<std::string> Unnamed();

  // Called by fsync and fdatasync: true if the file is on a watched disk.
  static bool Note(int fd);

 private:
  struct File;
  using FileKey = std::pair<uint64_t, uint64_t>;  // device, inode
  struct Entry {
    bool is_directory = false;
    FileKey file{};
  };
  using Names = std::map<std::string, Entry>;

  void NoteAll(const std::string& directory);
  void NoteFile(int fd, FileKey key);
  Names Listing(const std::string& directory);
  std::string Contents(FileKey key, uint64_t seed, const std::string& path);
  void Materialize(const std::string& from, const std::string& to, uint64_t seed);

  const std::string directory_;
  std::mutex mu_;
  // Guarded by mu_:
  std::map<FileKey, std::unique_ptr<File>> files_;
  std::map<std::string, Names> names_;  // by path of the directory, as of its last sync
  std::function<bool(const std::string&)> ignored_;
  std::map<std::string, int> unnamed_;
};

// The sync that the thread carries out meanwhile is one of those that a table names.
class NamedSync {
 public:
  NamedSync();
  ~NamedSync();
};

}  // namespace cairn::power

// mount_bench: what file system calls cost, on one or more directories side by side in one run.
//
//   mount_bench --dir cairn=/mnt/cairn --dir local=/var/tmp/x [--run-dir cairn=D/run] [--stats
//   cairn=/mnt/cairn]
//               [--mib 1024] [--files 2000] [--rounds 3] [--json FILE] [--drop-cache cairn='COMMAND']
//               [--only stream,random,append,small,copy] [--cpu-of-all]
//
// Every row is the median of the rounds, the directories taking turns. CPU is user + system time of the named
// processes (with
// --cpu-of-all: of every process that /proc shows, for a run in a process namespace of its own) and of this
// one. Round trips come from the mount itself (extended attribute user.cairn.stats of its root). The cold
// rows run after the --drop-cache command of the directory (for a mount: unmount and mount again), or after
// POSIX_FADV_DONTNEED without one.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/times.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Target {
  std::string name;
  std::string directory;
  std::string pid_directory;
  std::string stats_path;
  std::string drop_cache;
};

struct Sample {
  double rate = 0;           // per second, or MB/s (10^6 bytes)
  double cpu_s = 0;          // of all processes involved
  double master_trips = -1;  // per operation; -1: unknown
  double data_requests = -1;
  double p99_ms = -1;  // of one operation; -1: not taken
};

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "mount_bench: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// The processes whose time counts besides this one.
std::vector<int> ProcessesOf(const Target& target, bool all) {
  std::vector<int> pids;
  if (all) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const int pid = std::atoi(entry.path().filename().c_str());
      if (pid > 0 && pid != getpid() && pid != getppid()) pids.push_back(pid);
    }
  } else if (!target.pid_directory.empty()) {
    for (const char* part : {"master", "cs1", "cs2", "cs3", "mount"}) {
      std::ifstream file(target.pid_directory + "/" + part + ".pid");
      int pid = 0;
      if (file >> pid) pids.push_back(pid);
    }
  }
  return pids;
}

double CpuSeconds(const Target& target, bool all) {
  const double tick = static_cast<double>(sysconf(_SC_CLK_TCK));
  double sum = static_cast<double>(clock()) / CLOCKS_PER_SEC;
  for (int pid : ProcessesOf(target, all)) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    if (!std::getline(stat, line)) continue;
    unsigned long user = 0, system = 0;
    std::sscanf(line.c_str() + line.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                &user, &system);
    sum += static_cast<double>(user + system) / tick;
  }
  return sum;
}

struct Counters {
  double master = -1, data = -1;
};
Counters ReadCounters(const Target& target) {
  Counters counters;
  if (target.stats_path.empty()) return counters;
  char text[4096];
  const ssize_t n = getxattr(target.stats_path.c_str(), "user.cairn.stats", text, sizeof text);
  if (n <= 0) return counters;
  const auto json = nlohmann::json::parse(std::string(text, static_cast<size_t>(n)), nullptr, false);
  if (!json.is_object()) return counters;
  counters.master = json.value("master_requests", -1.0);
  counters.data = json.value("data_requests", -1.0);
  return counters;
}

constexpr size_t kMiB = 1 << 20;

void WriteStream(const std::string& path, size_t mib, bool sync) {
  static const std::vector<char> block = [] {
    std::vector<char> bytes(kMiB);
    std::mt19937_64 random(1);
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(&bytes[i], &word, 8);
    }
    return bytes;
  }();
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644);
  if (fd < 0) Die("create " + path);
  for (size_t i = 0; i < mib; ++i) {
    if (write(fd, block.data(), block.size()) != static_cast<ssize_t>(block.size())) Die("write " + path);
  }
  if (sync && fsync(fd) != 0) Die("fsync " + path);
  if (close(fd) != 0) Die("close " + path);
}

void ReadStream(const std::string& path) {
  static std::vector<char> buffer(kMiB);
  const int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) Die("open " + path);
  ssize_t n;
  while ((n = read(fd, buffer.data(), buffer.size())) > 0) {
  }
  if (n < 0) Die("read " + path);
  close(fd);
}

void Parallel(int threads, const std::function<void(int)>& work) {
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) all.emplace_back(work, i);
  for (std::thread& thread : all) thread.join();
}

std::string SmallName(const std::string& directory, int i) { return directory + "/f" + std::to_string(i); }

void CreateSmall(const std::string& directory, int first, int count) {
  static const std::string content(4096, 'c');
  for (int i = first; i < first + count; ++i) {
    const int fd = open(SmallName(directory, i).c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0) Die("create " + SmallName(directory, i));
    if (write(fd, content.data(), content.size()) != 4096) Die("write");
    if (close(fd) != 0) Die("close");
  }
}

class Bench {
 public:
  Bench(std::vector<Target> targets, size_t mib, int files, std::set<std::string> groups, bool cpu_of_all)
      : targets_(std::move(targets)),
        mib_(mib),
        files_(files),
        groups_(std::move(groups)),
        cpu_of_all_(cpu_of_all) {}

  void Round() {
    for (const Target& target : targets_) One(target);
  }

  void Print() const {
    std::printf("%-34s %-10s %12s %12s %10s %9s %12s %12s\n", "workload", "where", "median", "unit", "CPU s",
                "p99 ms", "master RT/op", "data req/op");
    for (const auto& [workload, unit] : order_) {
      for (const Target& target : targets_) {
        const Sample median = Median(workload, target.name);
        char p99[32] = "-";
        if (median.p99_ms >= 0) std::snprintf(p99, sizeof p99, "%.2f", median.p99_ms);
        char trips[2][32] = {"-", "-"};
        if (median.master_trips >= 0) {
          std::snprintf(trips[0], sizeof trips[0], "%.2f", median.master_trips);
          std::snprintf(trips[1], sizeof trips[1], "%.2f", median.data_requests);
        }
        std::printf("%-34s %-10s %12.0f %12s %10.2f %9s %12s %12s\n", workload.c_str(), target.name.c_str(),
                    median.rate, unit.c_str(), median.cpu_s, p99, trips[0], trips[1]);
      }
    }
  }

  nlohmann::json Json() const {
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& [workload, unit] : order_) {
      for (const Target& target : targets_) {
        const Sample median = Median(workload, target.name);
        nlohmann::json row = {{"workload", workload},
                              {"where", target.name},
                              {"median", median.rate},
                              {"unit", unit},
                              {"cpu_s", median.cpu_s}};
        std::vector<double> all;
        for (const Sample& sample : samples_.at({workload, target.name})) all.push_back(sample.rate);
        row["all"] = all;
        if (median.p99_ms >= 0) row["p99_ms"] = median.p99_ms;
        if (median.master_trips >= 0) {
          row["master_round_trips_per_op"] = median.master_trips;
          row["data_requests_per_op"] = median.data_requests;
        }
        rows.push_back(row);
      }
    }
    return rows;
  }

 private:
  // Runs `work` and turns it into a sample: `operations` for the per-operation figures, `amount` for the
  // rate.
  Sample Measure(const Target& target, double operations, double amount,
                 const std::function<void()>& work) const {
    const Counters before = ReadCounters(target);
    const double cpu = CpuSeconds(target, cpu_of_all_);
    const double start = Now();
    work();
    const double took = Now() - start;
    Sample sample;
    sample.rate = amount / took;
    sample.cpu_s = CpuSeconds(target, cpu_of_all_) - cpu;
    const Counters after = ReadCounters(target);
    if (before.master >= 0 && after.master >= 0) {
      // Reading the counters itself costs nothing at the master: the attribute is answered by the mount.
      sample.master_trips = (after.master - before.master) / operations;
      sample.data_requests = (after.data - before.data) / operations;
    }
    return sample;
  }

  void Add(const Target& target, const std::string& workload, const std::string& unit, const Sample& sample) {
    if (std::none_of(order_.begin(), order_.end(), [&](const auto& row) { return row.first == workload; })) {
      order_.emplace_back(workload, unit);
    }
    samples_[{workload, target.name}].push_back(sample);
  }

  Sample Median(const std::string& workload, const std::string& target) const {
    std::vector<Sample> all = samples_.at({workload, target});
    std::sort(all.begin(), all.end(), [](const Sample& a, const Sample& b) { return a.rate < b.rate; });
    return all[all.size() / 2];
  }

  void DropCache(const Target& target, const std::vector<std::string>& files) const {
    if (!target.drop_cache.empty()) {
      if (std::system(target.drop_cache.c_str()) != 0) Die("drop cache command: " + target.drop_cache);
      return;
    }
    for (const std::string& file : files) {
      const int fd = open(file.c_str(), O_RDONLY);
      if (fd < 0) Die("open " + file);
      fdatasync(fd);
      posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      close(fd);
    }
  }

  void One(const Target& target) {
    const std::string root = target.directory + "/mount_bench." + std::to_string(getpid());
    if (mkdir(root.c_str(), 0755) != 0) Die("mkdir " + root);
    const std::string big = root + "/big";
    if (groups_.contains("stream")) Streams(target, big);
    if (groups_.contains("random")) Random(target, big);
    if (groups_.contains("append")) Appends(target, root + "/append");
    if (groups_.contains("small")) SmallFiles(target, root);
    if (groups_.contains("copy")) Copies(target, root);
    if (rmdir(root.c_str()) != 0) Die("rmdir " + root);
  }

  void Streams(const Target& target, const std::string& big) {
    const double megabytes = static_cast<double>(mib_) * kMiB / 1e6;
    Add(target, "write stream + fsync", "MB/s",
        Measure(target, static_cast<double>(mib_), megabytes, [&] { WriteStream(big, mib_, true); }));
    DropCache(target, {big});
    Add(target, "read stream, cold", "MB/s",
        Measure(target, static_cast<double>(mib_), megabytes, [&] { ReadStream(big); }));
    Add(target, "read stream, warm", "MB/s",
        Measure(target, static_cast<double>(mib_), megabytes, [&] { ReadStream(big); }));
    if (unlink(big.c_str()) != 0) Die("unlink " + big);
    Add(target, "4 writers, a quarter each + fsync", "MB/s",
        Measure(target, static_cast<double>(mib_), megabytes,
                [&] { Parallel(4, [&](int i) { WriteStream(big + std::to_string(i), mib_ / 4, true); }); }));
    for (int i = 0; i < 4; ++i) unlink((big + std::to_string(i)).c_str());
  }

  // A file copied by the program's own reads and writes, and by copy_file_range, which a file system may carry out elsewhere.
  void Copies(const Target& target, const std::string& root) {
    constexpr size_t kCopyMib = 256;
    const double megabytes = static_cast<double>(kCopyMib) * kMiB / 1e6;
    const std::string from = root + "/from", to = root + "/to";
    WriteStream(from, kCopyMib, true);
    for (const bool by_call : {false, true}) {
      DropCache(target, {from});
      Add(target, std::string("copy 256 MiB, ") + (by_call ? "copy_file_range" : "read + write"), "MB/s",
          Measure(target, kCopyMib, megabytes, [&] { CopyFile(from, to, by_call); }));
      if (unlink(to.c_str()) != 0) Die("unlink " + to);
    }
    if (unlink(from.c_str()) != 0) Die("unlink " + from);
  }

  static void CopyFile(const std::string& from, const std::string& to, bool by_call) {
    const int in = open(from.c_str(), O_RDONLY);
    const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (in < 0 || out < 0) Die("open " + from + " and " + to);
    std::vector<char> block(kMiB);
    for (;;) {
      const ssize_t n = by_call ? copy_file_range(in, nullptr, out, nullptr, 1u << 30, 0) : read(in, block.data(), block.size());
      if (n < 0) Die("copy " + from);
      if (n == 0) break;
      if (!by_call && write(out, block.data(), static_cast<size_t>(n)) != n) Die("write " + to);
    }
    close(in);
    if (close(out) != 0) Die("close " + to);
  }

  // Reads, then writes, of 4 KiB at random places of one file, past the page cache.
  void Random(const Target& target, const std::string& path) {
    WriteStream(path, mib_, true);
    DropCache(target, {path});
    for (const bool writes : {false, true}) {
      if (!TakesDirect(path, writes)) continue;  // some FUSE file systems refuse direct access: no row
      for (int jobs : {1, 4}) {
        const int count = writes ? 2000 : 4000;
        Add(target,
            std::string("random ") + (writes ? "write" : "read") + " 4 KiB direct, " + std::to_string(jobs) +
                " jobs",
            "IOPS", Measure(target, count * jobs, count * jobs, [&] {
              Parallel(jobs, [&](int job) { RandomAccess(path, job, count, writes); });
            }));
      }
    }
    if (unlink(path.c_str()) != 0) Die("unlink " + path);
  }

  static bool TakesDirect(const std::string& path, bool writes) {
    alignas(4096) static char block[4096];
    const int fd = open(path.c_str(), (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
    if (fd < 0) return false;
    const ssize_t moved = writes ? pwrite(fd, block, sizeof block, 0) : pread(fd, block, sizeof block, 0);
    close(fd);
    return moved == sizeof block;
  }

  void RandomAccess(const std::string& path, int job, int count, bool writes) const {
    const int fd = open(path.c_str(), (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
    if (fd < 0) Die("open direct " + path);
    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, 4096) != 0) Die("posix_memalign");
    std::memset(memory, 'r', 4096);
    std::mt19937_64 random(static_cast<unsigned>(job) + 7);
    for (int i = 0; i < count; ++i) {
      const off_t at = static_cast<off_t>(random() % (mib_ * 256)) * 4096;
      if ((writes ? pwrite(fd, memory, 4096, at) : pread(fd, memory, 4096, at)) != 4096)
        Die("4 KiB at random in " + path);
    }
    std::free(memory);
    close(fd);
  }

  void Appends(const Target& target, const std::string& path) {
    constexpr int kAppends = 1000;
    const std::string block(4096, 'a');
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
    if (fd < 0) Die("create " + path);
    std::vector<double> latencies;
    Sample sample = Measure(target, kAppends, kAppends, [&] {
      for (int i = 0; i < kAppends; ++i) {
        const double start = Now();
        if (write(fd, block.data(), block.size()) != 4096 || fsync(fd) != 0) Die("append " + path);
        latencies.push_back(Now() - start);
      }
    });
    std::sort(latencies.begin(), latencies.end());
    sample.p99_ms = latencies[latencies.size() * 99 / 100] * 1e3;
    Add(target, "append 4 KiB + fsync", "per s", sample);
    close(fd);
    unlink(path.c_str());
  }

  void SmallFiles(const Target& target, const std::string& root) {
    const std::string one = root + "/one";
    if (mkdir(one.c_str(), 0755) != 0) Die("mkdir " + one);
    Add(target, "create+write 4 KiB+close, 1 job", "files/s",
        Measure(target, files_, files_, [&] { CreateSmall(one, 0, files_); }));
    const std::string four = root + "/four";
    for (int job = 0; job < 4; ++job) {
      if (job == 0 && mkdir(four.c_str(), 0755) != 0) Die("mkdir " + four);
      if (mkdir((four + "/" + std::to_string(job)).c_str(), 0755) != 0) Die("mkdir");
    }
    Add(target, "create+write 4 KiB+close, 4 jobs", "files/s", Measure(target, files_, files_, [&] {
          Parallel(4, [&](int job) { CreateSmall(four + "/" + std::to_string(job), 0, files_ / 4); });
        }));
    std::vector<std::string> names;
    for (int i = 0; i < files_; ++i) names.push_back(SmallName(one, i));
    DropCache(target, names);
    auto stat_all = [&] {
      struct stat info {};
      for (const std::string& name : names) {
        if (lstat(name.c_str(), &info) != 0) Die("stat " + name);
      }
    };
    Add(target, "stat, cold", "per s", Measure(target, files_, files_, stat_all));
    Add(target, "stat, warm", "per s", Measure(target, files_, files_, stat_all));
    DropCache(target, names);
    Add(target, "open+read 4 KiB+close, cold", "files/s", Measure(target, files_, files_, [&] {
          for (const std::string& name : names) ReadStream(name);
        }));
    Add(target, "rename", "per s", Measure(target, files_, files_, [&] {
          for (const std::string& name : names) {
            if (rename(name.c_str(), (name + "r").c_str()) != 0) Die("rename " + name);
          }
        }));
    Add(target, "unlink", "per s", Measure(target, files_, files_, [&] {
          for (const std::string& name : names) {
            if (unlink((name + "r").c_str()) != 0) Die("unlink " + name);
          }
        }));
    for (int job = 0; job < 4; ++job) {
      for (int i = 0; i < files_ / 4; ++i) unlink(SmallName(four + "/" + std::to_string(job), i).c_str());
      rmdir((four + "/" + std::to_string(job)).c_str());
    }
    rmdir(four.c_str());
    if (rmdir(one.c_str()) != 0) Die("rmdir " + one);
  }

  const std::vector<Target> targets_;
  const size_t mib_;
  const int files_;
  const std::set<std::string> groups_;
  const bool cpu_of_all_;
  std::vector<std::pair<std::string, std::string>> order_;
  std::map<std::pair<std::string, std::string>, std::vector<Sample>> samples_;
};

std::pair<std::string, std::string> SplitOption(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos) {
    std::fprintf(stderr, "mount_bench: '%s' is not of the form NAME=VALUE\n", text.c_str());
    std::exit(2);
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What file system calls cost, on directories side by side");
  std::vector<std::string> directories, run_directories, stats, drops;
  size_t mib = 1024;
  int files = 2000, rounds = 3;
  std::string json_file;
  std::vector<std::string> groups = {"stream", "random", "append", "small", "copy"};
  bool cpu_of_all = false;
  app.add_option("--dir", directories, "NAME=DIRECTORY to measure")->required();
  app.add_option("--run-dir", run_directories,
                 "NAME=DIRECTORY with the pid files of the daemons whose CPU time counts");
  app.add_option("--stats", stats, "NAME=PATH whose user.cairn.stats counts requests");
  app.add_option("--drop-cache", drops, "NAME=COMMAND that empties the caches of a directory's client");
  app.add_option("--mib", mib, "Size of the stream in MiB")->check(CLI::Range(4, 1 << 20));
  app.add_option("--files", files, "Number of small files")->check(CLI::Range(4, 1'000'000));
  app.add_option("--rounds", rounds, "Rounds; the median is printed")->check(CLI::Range(1, 100));
  app.add_option("--only", groups, "The groups of rows to measure")
      ->delimiter(',')
      ->check(CLI::IsMember({"stream", "random", "append", "small", "copy"}));
  app.add_flag("--cpu-of-all", cpu_of_all, "Count the CPU time of every process but the parent");
  app.add_option("--json", json_file, "Also write the rows to this file");
  CLI11_PARSE(app, argc, argv);

  std::vector<Target> targets;
  for (const std::string& text : directories) {
    Target target;
    std::tie(target.name, target.directory) = SplitOption(text);
    targets.push_back(target);
  }
  auto set = [&](const std::vector<std::string>& options, std::string Target::*field) {
    for (const std::string& text : options) {
      const auto [name, value] = SplitOption(text);
      for (Target& target : targets) {
        if (target.name == name) target.*field = value;
      }
    }
  };
  set(run_directories, &Target::pid_directory);
  set(stats, &Target::stats_path);
  set(drops, &Target::drop_cache);

  Bench bench(targets, mib, files, {groups.begin(), groups.end()}, cpu_of_all);
  for (int round = 0; round < rounds; ++round) bench.Round();
  bench.Print();
  if (!json_file.empty()) std::ofstream(json_file) << bench.Json().dump(2) << "\n";
  return 0;
}

// shared_bench: what it costs when several mounts use the same file at once, in operations per second and counted per operation.
//
//   shared_bench --mount A --mount B [--mount C --mount D] [--run-dir D/run] [--count 2000] [--seconds 2] [--rounds 3]
//                [--only turns,burst,follow,locks,poll,many] [--json FILE]
//
// "in turn": the programs wake one another (a semaphore), so every operation finds the file in the hands of the other mount. "at
// once": each goes on as fast as it can; the share is what the slowest got, of what the fastest got. Round trips to the master,
// recalls and requests to chunkservers come from the mounts themselves (user.cairn.stats), CPU and voluntary context switches from
// /proc of the daemons named by pid files in --run-dir and of processes given with --pid. The median of the rounds is printed.
#include <fcntl.h>
#include <semaphore.h>
#include <sys/stat.h>
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
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "shared_bench: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

struct Options {
  std::vector<std::string> mounts;
  std::vector<int> pids;
  int count = 2000;
  double seconds = 2;
};

struct Totals {
  double master = 0, recalls = 0, data = 0, cpu_s = 0, switches = 0;
};

struct Sample {
  double per_s = 0;
  double share = -1;   // slowest to fastest; -1: they take turns
  double p50_ms = -1;  // of one operation
  double p99_ms = -1;
  Totals per_op;
};

Totals ReadTotals(const Options& options) {
  Totals totals;
  for (const std::string& mount : options.mounts) {
    char text[4096];
    const ssize_t n = getxattr(mount.c_str(), "user.cairn.stats", text, sizeof text);
    if (n <= 0) continue;
    const auto json = nlohmann::json::parse(std::string(text, static_cast<size_t>(n)), nullptr, false);
    if (!json.is_object()) continue;
    totals.master += json.value("master_requests", 0.0);
    totals.recalls += json.value("lease_recalls", 0.0);
    totals.data += json.value("data_requests", 0.0);
  }
  const double tick = static_cast<double>(sysconf(_SC_CLK_TCK));
  for (const int pid : options.pids) {
    const std::string proc = "/proc/" + std::to_string(pid);
    std::ifstream stat(proc + "/stat");
    std::string line;
    if (!std::getline(stat, line)) continue;
    unsigned long user = 0, system = 0;
    std::sscanf(line.c_str() + line.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                &system);
    totals.cpu_s += static_cast<double>(user + system) / tick;
    std::error_code gone;
    for (const auto& task : std::filesystem::directory_iterator(proc + "/task", gone)) {
      std::ifstream status(task.path() / "status");
      while (std::getline(status, line)) {
        if (line.starts_with("voluntary_ctxt_switches:")) totals.switches += std::atof(line.c_str() + 24);
      }
    }
  }
  return totals;
}

// Descriptors of one file, one on each of the mounts.
class SharedFile {
 public:
  SharedFile(const Options& options, const std::string& name, int flags, size_t mounts) : path_(options.mounts[0] + "/" + name) {
    const int made = open(path_.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (made < 0 || close(made) != 0) Die("create " + path_);
    for (size_t i = 0; i < mounts; ++i) {
      const std::string path = options.mounts[i] + "/" + name;
      fds_.push_back(open(path.c_str(), flags));
      if (fds_.back() < 0) Die("open " + path);
    }
  }
  ~SharedFile() {
    for (const int fd : fds_) close(fd);
    unlink(path_.c_str());
  }
  int operator[](size_t i) const { return fds_[i]; }

 private:
  const std::string path_;
  std::vector<int> fds_;
};

using Work = std::function<void(size_t who, int turn)>;

class Bench {
 public:
  Bench(Options options, std::set<std::string> groups) : options_(std::move(options)), groups_(std::move(groups)) {}

  void Round() {
    if (groups_.contains("turns")) Turns();
    if (groups_.contains("burst")) Burst();
    if (groups_.contains("follow")) Follow();
    if (groups_.contains("locks")) Locks();
    if (groups_.contains("poll")) Polls();
    if (groups_.contains("many")) Many();
  }

  void Print() const {
    std::printf("%-46s %9s %6s %8s %8s %9s %8s %8s %8s %9s\n", "workload", "per s", "share", "p50 ms", "p99 ms", "master/op",
                "recalls", "data/op", "CPU us", "switches");
    for (const std::string& workload : order_) {
      const Sample s = Median(workload);
      const auto text = [](double value, const char* format) {
        char out[32] = "-";
        if (value >= 0) std::snprintf(out, sizeof out, format, value);
        return std::string(out);
      };
      std::printf("%-46s %9.0f %6s %8s %8s %9.2f %8.2f %8.2f %8.0f %9.1f\n", workload.c_str(), s.per_s,
                  text(s.share, "%.2f").c_str(), text(s.p50_ms, "%.2f").c_str(), text(s.p99_ms, "%.2f").c_str(),
                  s.per_op.master, s.per_op.recalls, s.per_op.data, s.per_op.cpu_s * 1e6, s.per_op.switches);
    }
  }

  nlohmann::json Json() const {
    nlohmann::json rows = nlohmann::json::array();
    for (const std::string& workload : order_) {
      const Sample s = Median(workload);
      nlohmann::json row = {{"workload", workload},
                            {"per_s", s.per_s},
                            {"master_round_trips_per_op", s.per_op.master},
                            {"recalls_per_op", s.per_op.recalls},
                            {"data_requests_per_op", s.per_op.data},
                            {"cpu_us_per_op", s.per_op.cpu_s * 1e6},
                            {"switches_per_op", s.per_op.switches}};
      if (s.share >= 0) row["share"] = s.share;
      if (s.p50_ms >= 0) row["p50_ms"] = s.p50_ms;
      if (s.p99_ms >= 0) row["p99_ms"] = s.p99_ms;
      for (const Sample& sample : samples_.at(workload)) row["all"].push_back(sample.per_s);
      rows.push_back(row);
    }
    return rows;
  }

 private:
  void Add(const std::string& workload, const Sample& sample) {
    if (!samples_.contains(workload)) order_.push_back(workload);
    samples_[workload].push_back(sample);
  }

  Sample Median(const std::string& workload) const {
    std::vector<Sample> all = samples_.at(workload);
    std::sort(all.begin(), all.end(), [](const Sample& a, const Sample& b) { return a.per_s < b.per_s; });
    return all[all.size() / 2];
  }

  static void Latencies(std::vector<double> took, Sample* sample) {
    if (took.empty()) return;
    std::sort(took.begin(), took.end());
    sample->p50_ms = took[took.size() / 2] * 1e3;
    sample->p99_ms = took[took.size() * 99 / 100] * 1e3;
  }

  void Counted(const Totals& before, double operations, Sample* sample) const {
    const Totals after = ReadTotals(options_);
    sample->per_op = {.master = (after.master - before.master) / operations,
                      .recalls = (after.recalls - before.recalls) / operations,
                      .data = (after.data - before.data) / operations,
                      .cpu_s = (after.cpu_s - before.cpu_s) / operations,
                      .switches = (after.switches - before.switches) / operations};
  }

  // `parties` programs, each waits for the one before it.
  void InTurn(const std::string& workload, size_t parties, const Work& work, int per_row = 1) {
    std::vector<sem_t> turns(parties);
    for (size_t i = 0; i < parties; ++i) sem_init(&turns[i], 0, i == 0 ? 1 : 0);
    std::vector<double> took;
    const Totals before = ReadTotals(options_);
    const double start = Now();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < parties; ++i) {
      threads.emplace_back([&, i] {
        for (int turn = 0; turn < options_.count / static_cast<int>(parties); ++turn) {
          while (sem_wait(&turns[i]) != 0) {
          }
          const double began = Now();
          work(i, turn);
          took.push_back(Now() - began);  // one at a time
          sem_post(&turns[(i + 1) % parties]);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const double operations = static_cast<double>(took.size()) / per_row;
    Sample sample{.per_s = operations / (Now() - start)};
    Latencies(took, &sample);
    Counted(before, operations, &sample);
    Add(workload, sample);
  }

  // Everybody as fast as they can, for some time. `others` run meanwhile and are not counted.
  void AtOnce(const std::string& workload, size_t parties, const Work& work, const std::function<void()>& other = nullptr) {
    std::atomic<bool> stop{false};
    std::vector<int> done(parties, 0);
    std::vector<std::vector<double>> took(parties);
    const Totals before = ReadTotals(options_);
    const double start = Now();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < parties; ++i) {
      threads.emplace_back([&, i] {
        while (!stop) {
          const double began = Now();
          work(i, done[i]++);
          took[i].push_back(Now() - began);
        }
      });
    }
    std::thread aside([&] {
      while (other && !stop) other();
    });
    std::this_thread::sleep_for(std::chrono::duration<double>(options_.seconds));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    const double elapsed = Now() - start;
    aside.join();
    double operations = 0;
    std::vector<double> all;
    for (size_t i = 0; i < parties; ++i) {
      operations += done[i];
      all.insert(all.end(), took[i].begin(), took[i].end());
    }
    Sample sample{.per_s = operations / elapsed};
    if (parties > 1) {
      sample.share = static_cast<double>(*std::min_element(done.begin(), done.end())) /
                     *std::max_element(done.begin(), done.end());
    }
    Latencies(all, &sample);
    Counted(before, operations, &sample);
    Add(workload, sample);
  }

  static void Append(int fd, size_t bytes = 100) {
    static const std::string record(4096, 'r');
    if (write(fd, record.data(), bytes) != static_cast<ssize_t>(bytes)) Die("append");
  }
  static void WriteAt(int fd, off_t at) {
    static const std::string block(4096, 'w');
    if (pwrite(fd, block.data(), block.size(), at) != 4096) Die("write");
  }

  void Turns() {
    {
      const SharedFile file(options_, "append", O_WRONLY | O_APPEND, 2);
      InTurn("append 100 B, two mounts in turn", 2, [&](size_t who, int) { Append(file[who]); });
    }
    {
      const SharedFile file(options_, "places", O_RDWR, 2);
      InTurn("write 4 KiB at other places, two mounts in turn", 2, [&](size_t who, int turn) {
        WriteAt(file[who], (static_cast<off_t>(turn % 64) * 2 + static_cast<off_t>(who)) * 4096);
      });
    }
    {
      const SharedFile file(options_, "counter", O_RDWR, 2);
      WriteAt(file[0], 0);
      InTurn("read + write of one block, two mounts in turn", 2, [&](size_t who, int) {
        char block[4096];
        if (pread(file[who], block, sizeof block, 0) != sizeof block) Die("read");
        WriteAt(file[who], 0);
      });
    }
  }

  void Burst() {
    const SharedFile file(options_, "burst", O_WRONLY | O_APPEND, 2);
    AtOnce("append 100 B, two mounts at once", 2, [&](size_t who, int) { Append(file[who]); });
    AtOnce("append 100 B, one mount alone", 1, [&](size_t, int) { Append(file[0]); });
    AtOnce("append 100 B, two mounts, two threads each", 4, [&](size_t who, int) { Append(file[who % 2]); });
  }

  // What was appended is read by the other mount before the next record.
  void Follow() {
    const SharedFile file(options_, "follow", O_RDWR | O_APPEND, 2);
    off_t seen = 0;
    InTurn(
        "reader follows writer (append, stat + read)", 2,
        [&](size_t who, int) {
          if (who == 0) return Append(file[0]);
          struct stat info {};
          char text[4096];
          if (fstat(file[1], &info) != 0 || info.st_size != seen + 100) Die("stat of what was appended");
          if (pread(file[1], text, sizeof text, seen) != 100) Die("read of what was appended");
          seen += 100;
        },
        2);
  }

  void Locks() {
    const SharedFile file(options_, "locked", O_RDWR | O_APPEND, 2);
    AtOnce("lock, append 100 B, unlock, two mounts at once", 2, [&](size_t who, int) {
      struct flock lock {};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_len = 1;
      if (fcntl(file[who], F_OFD_SETLKW, &lock) != 0) Die("lock");
      Append(file[who]);
      lock.l_type = F_UNLCK;
      if (fcntl(file[who], F_OFD_SETLKW, &lock) != 0) Die("unlock");
    });
  }

  // A program that follows a file like `tail -f`, on the second mount.
  static void Poll(int fd, off_t* seen, std::chrono::milliseconds pause) {
    struct stat info {};
    if (fstat(fd, &info) != 0) Die("stat");
    static thread_local std::vector<char> text(64 << 10);
    while (*seen < info.st_size) {
      const ssize_t n = pread(fd, text.data(), text.size(), *seen);
      if (n < 0) Die("read");
      if (n == 0) break;
      *seen += n;
    }
    std::this_thread::sleep_for(pause);
  }

  void Polls() {
    for (const int pause_ms : {1000, 10}) {
      const SharedFile file(options_, "polled", O_RDWR | O_APPEND, 2);
      off_t seen = 0;
      AtOnce("append 100 B, followed every " + std::to_string(pause_ms) + " ms", 1, [&](size_t, int) { Append(file[0]); },
             [&] { Poll(file[1], &seen, std::chrono::milliseconds(pause_ms)); });
      // A log that is written now and then: what one record costs its writer.
      AtOnce("append 100 B each ms, followed every " + std::to_string(pause_ms) + " ms", 1,
             [&](size_t, int) {
               Append(file[0]);
               std::this_thread::sleep_for(std::chrono::milliseconds(1));
             },
             [&] { Poll(file[1], &seen, std::chrono::milliseconds(pause_ms)); });
    }
  }

  void Many() {
    if (options_.mounts.size() < 4) return;
    const SharedFile file(options_, "many", O_RDWR | O_APPEND, 4);
    AtOnce("append 100 B, three mounts, a fourth reads all", 3, [&](size_t who, int) { Append(file[who]); },
           [&] {
             std::vector<char> text(128 << 10);
             off_t at = 0;
             ssize_t n = 0;
             while ((n = pread(file[3], text.data(), text.size(), at)) > 0) at += n;
             if (n < 0) Die("read");
           });
  }

  const Options options_;
  const std::set<std::string> groups_;
  std::vector<std::string> order_;
  std::map<std::string, std::vector<Sample>> samples_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What it costs when several mounts use the same file");
  Options options;
  std::string run_directory;
  std::string json_file;
  int rounds = 3;
  std::vector<std::string> groups = {"turns", "burst", "follow", "locks", "poll", "many"};
  app.add_option("--mount", options.mounts, "Mount points of one cluster, two to four")->required()->expected(1, 4);
  app.add_option("--run-dir", run_directory, "Directory with the pid files of the daemons whose time counts");
  app.add_option("--pid", options.pids, "Further processes whose time counts");
  app.add_option("--count", options.count, "Operations of a row in which mounts take turns")->check(CLI::Range(4, 1'000'000));
  app.add_option("--seconds", options.seconds, "Length of a row in which they do not")->check(CLI::Range(0.1, 600.0));
  app.add_option("--rounds", rounds, "Rounds; the median is printed")->check(CLI::Range(1, 100));
  app.add_option("--only", groups, "The groups of rows to measure")
      ->delimiter(',')
      ->check(CLI::IsMember({"turns", "burst", "follow", "locks", "poll", "many"}));
  app.add_option("--json", json_file, "Also write the rows to this file");
  CLI11_PARSE(app, argc, argv);
  if (options.mounts.size() < 2) {
    std::fprintf(stderr, "shared_bench: name at least two mounts of one cluster with --mount\n");
    return 2;
  }
  if (!run_directory.empty()) {
    for (const auto& entry : std::filesystem::directory_iterator(run_directory)) {
      std::ifstream file(entry.path());
      int pid = 0;
      if (entry.path().extension() == ".pid" && file >> pid) options.pids.push_back(pid);
    }
  }
  Bench bench(options, {groups.begin(), groups.end()});
  for (int round = 0; round < rounds; ++round) bench.Round();
  bench.Print();
  if (!json_file.empty()) std::ofstream(json_file) << bench.Json().dump(2) << "\n";
  return 0;
}

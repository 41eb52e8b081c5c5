// scale_bench: how a cluster's costs grow with the number of its files.
//
//   scale_bench --dir /mnt/cairn/x --run-dir D/run --remount COMMAND --restart-master COMMAND
//               [--files 100000] [--bytes 1] [--jobs 4] [--json FILE]
//
// Makes files in directories of 1,000 until there are 1,000, then 10,000, and so on, up to --files. At each
// step it measures what was made since the step before, and then, with a client that knows nothing: a listing
// of everything, stat of a sample, the memory of the processes, and how long the master is away when it is
// restarted (until a file can be made again).
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kFilesPerDirectory = 1'000;
constexpr uint64_t kFirstStep = 1'000;
constexpr uint64_t kSample = 20'000;

struct Flags {
  std::string directory, run_directory, remount, restart_master, json;
  uint64_t files = 100'000;
  size_t bytes = 1;
  int jobs = 4;
};

struct Row {
  uint64_t files = 0;
  double create_rate = 0, list_rate = 0, stat_rate = 0;
  double master_mib = 0, servers_mib = 0, mount_mib = 0;
  double master_cpu_us = 0;  // per file made
  double restart_s = 0;
};

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "scale_bench: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Seconds(const std::function<void()>& work) {
  const double start = Now();
  work();
  return Now() - start;
}

void Command(const std::string& command) {
  if (std::system(command.c_str()) != 0) Die(command);
}

// MiB resident of the processes whose pid files have these names.
int PidOf(const Flags& flags, const std::string& part) {
  std::ifstream file(flags.run_directory + "/" + part + ".pid");
  int pid = 0;
  file >> pid;
  return pid;
}
double ResidentMib(const Flags& flags, const std::vector<std::string>& parts) {
  double pages = 0;
  for (const std::string& part : parts) {
    std::ifstream file("/proc/" + std::to_string(PidOf(flags, part)) + "/statm");
    double total = 0, resident = 0;
    if (file >> total >> resident) pages += resident;
  }
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}
double CpuSeconds(const Flags& flags, const std::string& part) {
  std::ifstream file("/proc/" + std::to_string(PidOf(flags, part)) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return 0;
  unsigned long user = 0, system = 0;
  std::sscanf(line.c_str() + line.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
              &user, &system);
  return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::string DirectoryOf(const Flags& flags, uint64_t file) {
  return flags.directory + "/d" + std::to_string(file / kFilesPerDirectory);
}
std::string NameOf(const Flags& flags, uint64_t file) {
  return DirectoryOf(flags, file) + "/f" + std::to_string(file);
}

void Make(const Flags& flags, const std::string& name) {
  const std::string content(flags.bytes, 's');
  const int fd = open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (fd < 0) Die("create " + name);
  if (!content.empty() && write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    Die("write " + name);
  }
  if (close(fd) != 0) Die("close " + name);
}

// Each job fills directories of its own, as programs do.
void MakeAll(const Flags& flags, uint64_t first, uint64_t end) {
  for (uint64_t file = first; file < end; file += kFilesPerDirectory) {
    if (mkdir(DirectoryOf(flags, file).c_str(), 0755) != 0) Die("mkdir " + DirectoryOf(flags, file));
  }
  std::vector<std::thread> jobs;
  for (int job = 0; job < flags.jobs; ++job) {
    jobs.emplace_back([&, job] {
      for (uint64_t directory = first / kFilesPerDirectory + static_cast<uint64_t>(job);
           directory * kFilesPerDirectory < end; directory += static_cast<uint64_t>(flags.jobs)) {
        const uint64_t last = std::min(end, (directory + 1) * kFilesPerDirectory);
        for (uint64_t file = directory * kFilesPerDirectory; file < last; ++file)
          Make(flags, NameOf(flags, file));
      }
    });
  }
  for (std::thread& job : jobs) job.join();
}

void ListAll(const Flags& flags, uint64_t files) {
  uint64_t seen = 0;
  for (uint64_t file = 0; file < files; file += kFilesPerDirectory) {
    DIR* directory = opendir(DirectoryOf(flags, file).c_str());
    if (directory == nullptr) Die("opendir " + DirectoryOf(flags, file));
    while (const dirent* entry = readdir(directory)) seen += entry->d_name[0] == 'f' ? 1 : 0;
    closedir(directory);
  }
  if (seen != files) {
    std::fprintf(stderr, "scale_bench: %llu files were made, %llu are listed\n",
                 static_cast<unsigned long long>(files), static_cast<unsigned long long>(seen));
    std::exit(1);
  }
}

Row Step(const Flags& flags, uint64_t before, uint64_t files) {
  Row row;
  row.files = files;
  const double cpu = CpuSeconds(flags, "master");
  const double took = Seconds([&] { MakeAll(flags, before, files); });
  row.create_rate = static_cast<double>(files - before) / took;
  row.master_cpu_us = (CpuSeconds(flags, "master") - cpu) * 1e6 / static_cast<double>(files - before);
  row.mount_mib = ResidentMib(flags, {"mount"});

  Command(flags.remount);
  row.list_rate = static_cast<double>(files) / Seconds([&] { ListAll(flags, files); });
  Command(flags.remount);
  std::mt19937_64 random(files);
  std::vector<std::string> names;
  for (uint64_t i = 0; i < std::min(files, kSample); ++i) names.push_back(NameOf(flags, random() % files));
  row.stat_rate = static_cast<double>(names.size()) / Seconds([&] {
                    struct stat info {};
                    for (const std::string& name : names) {
                      if (stat(name.c_str(), &info) != 0) Die("stat " + name);
                    }
                  });
  row.master_mib = ResidentMib(flags, {"master"});
  row.servers_mib = ResidentMib(flags, {"cs1", "cs2", "cs3"});
  row.restart_s = Seconds([&] {
    Command(flags.restart_master);
    const std::string probe = flags.directory + "/restarted" + std::to_string(files);
    Make(flags, probe);
    if (unlink(probe.c_str()) != 0) Die("unlink " + probe);
  });
  return row;
}

void Print(const Row& row) {
  std::printf("%10llu %10.0f %12.0f %10.0f %12.0f %12.1f %12.1f %10.1f %10.2f\n",
              static_cast<unsigned long long>(row.files), row.create_rate, row.list_rate, row.stat_rate,
              row.master_cpu_us, row.master_mib, row.servers_mib, row.mount_mib, row.restart_s);
  std::fflush(stdout);
}

nlohmann::json ToJson(const Row& row) {
  return {{"files", row.files},
          {"create_per_s", row.create_rate},
          {"list_per_s", row.list_rate},
          {"stat_per_s", row.stat_rate},
          {"master_cpu_us_per_create", row.master_cpu_us},
          {"master_mib", row.master_mib},
          {"servers_mib", row.servers_mib},
          {"mount_mib", row.mount_mib},
          {"restart_s", row.restart_s}};
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("How a cluster's costs grow with the number of its files");
  app.add_option("--dir", flags.directory, "An empty directory on the mount")->required();
  app.add_option("--run-dir", flags.run_directory, "Where the daemons' pid files are")->required();
  app.add_option("--remount", flags.remount, "Command that mounts anew")->required();
  app.add_option("--restart-master", flags.restart_master, "Command that stops and starts the master")
      ->required();
  app.add_option("--files", flags.files, "The last step")
      ->check(CLI::Range(1'000, 100'000'000))
      ->capture_default_str();
  app.add_option("--bytes", flags.bytes, "In each file")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--jobs", flags.jobs, "That make files at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--json", flags.json, "Also write the rows to this file");
  CLI11_PARSE(app, argc, argv);

  std::printf("%10s %10s %12s %10s %12s %12s %12s %10s %10s\n", "files", "create/s", "listed/s", "stat/s",
              "master us/cr", "master MiB", "servers MiB", "mount MiB", "restart s");
  std::vector<Row> rows;
  uint64_t made = 0;
  for (uint64_t step = kFirstStep; made < flags.files; step *= 10) {
    const uint64_t next = std::min(step, flags.files);
    rows.push_back(Step(flags, made, next));
    Print(rows.back());
    made = next;
  }
  if (rows.size() > 1) {
    const double grown = rows.back().master_mib - rows.front().master_mib;
    std::printf("master: %.0f MiB more per million files\n",
                grown * 1e6 / static_cast<double>(rows.back().files - rows.front().files));
  }
  if (!flags.json.empty()) {
    nlohmann::json all = nlohmann::json::array();
    for (const Row& row : rows) all.push_back(ToJson(row));
    std::ofstream(flags.json) << all.dump(2) << "\n";
  }
  return 0;
}

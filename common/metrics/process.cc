#include "common/metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

namespace cairn::metrics {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");  // in pages: the whole, then what is resident
  uint64_t whole = 0, resident = 0;
  statm >> whole >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double OpenDescriptors() {
  std::error_code error;
  size_t count = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error))
    ++count;
  return count == 0 ? 0 : static_cast<double>(count - 1);  // without the one that lists them
}

}  // namespace

std::vector<std::unique_ptr<Registry::Handle>> AddProcess(Registry& registry, const std::string& program,
                                                          const std::string& version) {
  const auto one = [](auto read) { return [read] { return std::vector<Sample>{{{}, read()}}; }; };
  const auto started = static_cast<double>(std::time(nullptr));
  std::vector<std::unique_ptr<Registry::Handle>> handles;
  handles.push_back(registry.AddGauge("cairn_build_info", "1; the labels tell program and version", [=] {
    return std::vector<Sample>{{{{"program", program}, {"version", version}}, 1}};
  }));
  handles.push_back(registry.AddGauge("process_start_time_seconds", "Start of the process, Unix time",
                                      one([started] { return started; })));
  handles.push_back(
      registry.AddTotal("process_cpu_seconds_total", "User and system time of the process", one(CpuSeconds)));
  handles.push_back(
      registry.AddGauge("process_resident_memory_bytes", "Memory that is resident", one(ResidentBytes)));
  handles.push_back(registry.AddGauge("process_open_fds", "Open file descriptors", one(OpenDescriptors)));
  return handles;
}

}  // namespace cairn::metrics

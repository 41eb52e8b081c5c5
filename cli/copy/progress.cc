#include "cli/copy/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ostream>

#include "cli/core/format.h"
#include "common/clock.h"

namespace cairn::cli {

Progress::Progress(std::ostream& out, bool terminal, std::string what)
    : out_(out),
      terminal_(terminal),
      what_(std::move(what)),
      start_ns_(SystemClock::Get()->NowNanos()),
      thread_([this] { Loop(); }) {}

Progress::~Progress() { Finish(); }

double Progress::Seconds() const {
  return static_cast<double>(SystemClock::Get()->NowNanos() - start_ns_) /
         static_cast<double>(kNanosPerSecond);
}

void Progress::Loop() {
  std::unique_lock lock(mu_);
  const auto interval = terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(5);
  while (!wake_.wait_for(lock, interval, [this] { return stop_; })) {
    if (terminal_ && Seconds() < 1.0) continue;
    out_ << (terminal_ ? "\r\033[K" : "") << Line(false) << (terminal_ ? "" : "\n") << std::flush;
    printed_ = true;
  }
}

void Progress::Finish() {
  {
    std::lock_guard lock(mu_);
    if (stop_) return;
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
  if (printed_) out_ << (terminal_ ? "\r\033[K" : "") << Line(true) << "\n" << std::flush;
}

std::string Progress::Line(bool last) const {
  const double seconds = std::max(Seconds(), 0.001);
  const uint64_t bytes = bytes_, expected = std::max<uint64_t>(expected_bytes_, bytes);
  const double rate = static_cast<double>(bytes) / seconds;
  std::string line = fmt::format("{} {} files, {} at {}/s", what_, files_.load(), HumanBytes(bytes),
                                 HumanBytes(static_cast<uint64_t>(rate)));
  if (last) return line + ", in " + HumanDuration(static_cast<int64_t>(seconds));
  if (!complete_)
    return line + fmt::format(" (found so far: {} files, {})", expected_files_.load(), HumanBytes(expected));
  if (expected == 0) return line;
  const double share = static_cast<double>(bytes) / static_cast<double>(expected);
  if (terminal_) {
    constexpr size_t kWidth = 24;
    const auto filled = static_cast<size_t>(share * kWidth);
    line = "[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " + line;
  }
  line += fmt::format(", {:.0f} %", share * 100);
  if (rate > 0)
    line +=
        ", " + HumanDuration(static_cast<int64_t>(static_cast<double>(expected - bytes) / rate)) + " left";
  return line;
}

}  // namespace cairn::cli

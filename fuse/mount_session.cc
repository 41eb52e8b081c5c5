#include "fuse/mount_session.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>

#include "common/log.h"
#include "fuse/mountpoint.h"

namespace cairn::fuse {
namespace {

constexpr int kProbeTimeoutMs = 30'000;
constexpr unsigned kIdleThreads = 32;

void IgnoreSignal(int) {}

}  // namespace

MountSession::MountSession(FileSystem& fs, KernelCache& cache, const MountOptions& options,
                           std::function<void()> ended)
    : fs_(fs), cache_(cache), options_(options), ended_(std::move(ended)) {}

Result<std::unique_ptr<MountSession>> MountSession::Mount(FileSystem& fs, KernelCache& cache,
                                                          const MountOptions& options,
                                                          std::function<void()> ended) {
  std::unique_ptr<MountSession> mount(new MountSession(fs, cache, options, std::move(ended)));
  CAIRN_RETURN_IF_ERROR(mount->Begin());
  return mount;
}

Status MountSession::Begin() {
  CAIRN_RETURN_IF_ERROR(CleanUpDeadMount(options_.mountpoint));
  struct stat info {};
  if (stat(options_.mountpoint.c_str(), &info) != 0)
    return ErrnoStatus(errno, "mount point " + options_.mountpoint);
  if (!S_ISDIR(info.st_mode)) {
    return {StatusCode::kNotDirectory, "mount point " + options_.mountpoint + " is not a directory"};
  }
  if (access("/dev/fuse", R_OK | W_OK) != 0) {
    const int error = errno;
    return ErrnoStatus(error, error == ENOENT
                                  ? "/dev/fuse (is the fuse module loaded?)"
                                  : "/dev/fuse (an ordinary user needs mode 0666, as Debian sets it)");
  }
  std::string library_options = LibraryOptions(options_);
  char program[] = "cairn-mount";
  char flag[] = "-o";
  char* arguments[] = {program, flag, library_options.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  session_ = fuse_session_new(&args, &FileSystem::Operations(), sizeof(fuse_lowlevel_ops), &fs_);
  fuse_opt_free_args(&args);
  if (session_ == nullptr)
    return {StatusCode::kInvalidArgument, "mount options were refused: " + library_options};
  if (fuse_session_mount(session_, options_.mountpoint.c_str()) != 0) {
    fuse_session_destroy(session_);
    session_ = nullptr;
    return {StatusCode::kIoError,
            "mounting at " + options_.mountpoint + " failed (the reason was printed above or logged)"};
  }
  if (const auto mounted = FindMount(options_.mountpoint); mounted) device_ = mounted->device;
  fs_.shared_mappings().SetDevice(device_);
  cache_.Attach(session_, fs_.options().root);

  // Interrupts the loop's wait when the session is to end without the kernel's help; see Stop.
  struct sigaction action {};
  action.sa_handler = IgnoreSignal;
  sigaction(SIGUSR1, &action, nullptr);
  loop_ = std::thread([this] {
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, options_.threads);
    fuse_loop_cfg_set_idle_threads(config, std::min(options_.threads, kIdleThreads));
    fuse_loop_cfg_set_clone_fd(config, 0);
    const int error = fuse_session_loop_mt(session_, config);
    fuse_loop_cfg_destroy(config);
    if (error < 0) CAIRN_LOG(Error, "the session with the kernel ended with errno {}", -error);
    {
      const std::lock_guard lock(mu_);
      loop_ended_ = true;
    }
    loop_ended_cv_.notify_all();
    if (ended_) ended_();
  });

  const auto state = ProbeMount(options_.mountpoint, kProbeTimeoutMs);
  if (!state.ok() || *state != MountState::kAlive) {
    Stop();
    return {StatusCode::kIoError, "mounted at " + options_.mountpoint + ", but it does not answer"};
  }
  cache_.ProbeEpochs();
  RaiseReadAhead();
  return Status::Ok();
}

void MountSession::RaiseReadAhead() const {
  if (options_.read_ahead_kib == 0 || device_.empty()) return;
  std::ofstream file("/sys/class/bdi/" + device_ + "/read_ahead_kb");
  file << options_.read_ahead_kib << std::flush;
  if (!file) CAIRN_LOG(Info, "the kernel's read-ahead stays as it is: only root may change it");
}

bool MountSession::StillMounted() const {
  const auto mounted = FindMount(options_.mountpoint);
  return mounted && mounted->device == device_;
}

void MountSession::Stop() {
  if (stopped_ || session_ == nullptr) return;
  stopped_ = true;
  if (StillMounted()) {
    // The threads still serve: an orderly unmount writes back what programs changed through mmap.
    const Status unmounted = Unmount(options_.mountpoint, {});
    if (!unmounted.ok()) {
      CAIRN_LOG(Warning, "{}; detaching it", unmounted.ToString());
      if (const Status synced = fs_.client().SyncAll(); !synced.ok()) {
        CAIRN_LOG(Error, "sync before detaching: {}", synced.ToString());
      }
      const Status detached = Unmount(options_.mountpoint, {.lazy = true});
      if (!detached.ok()) CAIRN_LOG(Error, "{}", detached.ToString());
    }
  }
  fuse_session_exit(session_);
  {
    // The loop may sit in a wait that only a signal ends; one that comes just before the wait would be lost.
    std::unique_lock lock(mu_);
    while (!loop_ended_cv_.wait_for(lock, std::chrono::milliseconds(50), [this] { return loop_ended_; })) {
      pthread_kill(loop_.native_handle(), SIGUSR1);
    }
  }
  loop_.join();
  // Those who still wait for a lock are answered while there is a session to answer on.
  fs_.client().AbandonLocks();
  cache_.Detach();
  // Closes the device; a detached mount's users get ENOTCONN from here on. Not fuse_session_unmount: by now
  // another file system may be mounted at this place.
  fuse_session_destroy(session_);
  session_ = nullptr;
}

MountSession::~MountSession() { Stop(); }

}  // namespace cairn::fuse

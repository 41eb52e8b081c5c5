// Runs the conformance suite on a directory:
//   posix_test --local             a new directory in /var/tmp (or $TMPDIR): proves the suite itself
//   posix_test --cairn             a mount of a new local cluster
//   posix_test --directory=DIR     any mounted file system
#include <sys/mount.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/cluster/harness.h"
#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

// The local file system's read-only view: a bind mount. Without it the EROFS cases are skipped, with a
// reason.
class ReadOnlyView {
 public:
  explicit ReadOnlyView(const std::string& of) : path_(of + ".readonly") {
    std::filesystem::create_directories(path_);
    mounted_ = mount(of.c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
               mount(nullptr, path_.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }
  ~ReadOnlyView() {
    umount2(path_.c_str(), MNT_DETACH);
    std::error_code error;
    std::filesystem::remove(path_, error);
  }
  std::string path() const { return mounted_ ? path_ : ""; }

 private:
  const std::string path_;
  bool mounted_ = false;
};

class CountPrinter : public testing::EmptyTestEventListener {
  void OnTestProgramEnd(const testing::UnitTest& unit) override {
    std::printf("[  FIGURE  ] %llu checks in %d cases on %s\n",
                static_cast<unsigned long long>(checks.load()), unit.test_to_run_count(),
                TheTarget().directory.c_str());
  }
};

int RunSuite(const std::string& directory, const std::string& read_only, bool local) {
  char other[] = "/dev/shm/cairn-posix-XXXXXX";
  if (mkdtemp(other) == nullptr) {
    std::perror("mkdtemp /dev/shm");
    return 2;
  }
  SetTarget(
      {.directory = directory, .read_only_directory = read_only, .other_file_system = other, .local = local});
  const int result = RUN_ALL_TESTS();
  std::filesystem::remove_all(other);
  return result;
}

int RunLocal(const std::string& given) {
  std::string directory = given;
  if (given.empty()) {
    const char* base = std::getenv("TMPDIR");
    directory = std::string(base != nullptr ? base : "/var/tmp") + "/cairn-posix-XXXXXX";
    if (mkdtemp(directory.data()) == nullptr) {
      std::perror(directory.c_str());
      return 2;
    }
    chmod(directory.c_str(), 0755);
  }
  int result = 0;
  {
    const ReadOnlyView view(directory);
    result = RunSuite(directory, view.path(), given.empty());
  }
  if (given.empty()) std::filesystem::remove_all(directory);
  return result;
}

int RunOnCairn() {
  if (geteuid() != 0) {
    std::puts("skipped: the suite changes users and makes devices: run it as root");
    return 0;
  }
  if (access("/dev/fuse", R_OK | W_OK) != 0) {
    std::puts("skipped: /dev/fuse is not accessible");
    return 0;
  }
  const auto cluster = cluster_test::LocalCluster::Start();
  if (cluster == nullptr) return 1;
  chmod(cluster->directory().c_str(), 0755);  // other users have to get to the mount
  const std::string read_only = cluster->AddMount("ro,allow_other");
  return RunSuite(cluster->mount(), read_only, false);
}

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new CountPrinter);
  const std::string mode = argc == 2 ? argv[1] : "";
  constexpr char kDirectory[] = "--directory=";
  if (mode == "--local") return RunLocal("");
  if (mode == "--cairn") return RunOnCairn();
  if (mode.starts_with(kDirectory)) return RunLocal(mode.substr(sizeof kDirectory - 1));
  std::fprintf(stderr, "usage: %s --local | --cairn | --directory=DIR [--gtest_...]\n", argv[0]);
  return 2;
}

}  // namespace
}  // namespace cairn::posix

int main(int argc, char** argv) { return cairn::posix::Main(argc, argv); }

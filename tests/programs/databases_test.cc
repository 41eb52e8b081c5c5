// Databases that are killed while they write: nothing that they reported
// committed is missing, and their checks find no damage.
#include <sys/wait.h>

#include <csignal>
#include <fstream>

#include "tests/programs/program_test.h"

namespace cairn::programs_test {
namespace {

// Inserts until it is killed; writes the number of rows of each committed
// transaction to a local file.
constexpr char kWriter[] = R"sh(
import os, sqlite3, sys
database, report, journal = sys.argv[1:4]
connection = sqlite3.connect(database, isolation_level=None, timeout=60)
connection.execute('pragma journal_mode=' + journal)
connection.execute('pragma synchronous=full')
connection.execute('create table if not exists t (id integer primary key, v text)')
out = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    connection.execute('begin immediate')
    for i in range(10):
        connection.execute('insert into t (v) values (hex(randomblob(200)))')
    connection.execute('commit')
    os.write(out, b'x' * 10)
)sh";
constexpr char kChecker[] = R"sh(
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60)
result = connection.execute('pragma integrity_check').fetchone()[0]
print(result, connection.execute('select count(*) from t').fetchone()[0])
)sh";

class SqliteTest : public ProgramTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (RunProgram({"python3", "-c", "import sqlite3"}).exit_code != 0)
      GTEST_SKIP() << "python3 with sqlite3 is not installed";
    std::ofstream(local_ + "/writer.py") << kWriter;
    std::ofstream(local_ + "/checker.py") << kChecker;
  }
  int64_t Reported() {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(local_ + "/report", error);
    return error ? 0 : static_cast<int64_t>(bytes);
  }
  pid_t StartWriter(const std::string& database) {
    const pid_t child = fork();
    if (child == 0) {
      execlp("python3", "python3", (local_ + "/writer.py").c_str(), database.c_str(),
             (local_ + "/report").c_str(), GetParam(), nullptr);
      _exit(127);
    }
    return child;
  }
  // "ok ROWS"
  int64_t CheckedRows(const std::string& database) {
    const RunResult result = RunProgram({"python3", local_ + "/checker.py", database});
    EXPECT_EQ(result.exit_code, 0) << result.Both();
    EXPECT_TRUE(result.out.starts_with("ok ")) << result.out;
    return result.out.starts_with("ok ") ? std::atoll(result.out.c_str() + 3) : -1;
  }
};

TEST_P(SqliteTest, SurvivesKillsOfItsWriter) {
  const std::string database = mount_directory() + "/db";
  int64_t rows = 0;
  for (int round = 0; round < 3; ++round) {
    const int64_t before = Reported();
    const pid_t writer = StartWriter(database);
    ASSERT_TRUE(cluster_test::WaitUntil([&] { return Reported() >= before + 100; }, 60'000, 5));
    kill(writer, SIGKILL);
    waitpid(writer, nullptr, 0);
    rows = CheckedRows(database);
    // One transaction may have been committed and not reported.
    EXPECT_GE(rows, Reported());
    EXPECT_LE(rows, Reported() + 10 * (round + 1));
  }
  Figure(std::string("sqlite ") + GetParam() + ": 3 kills, " + std::to_string(rows) + " rows, integrity ok");
}

// Without shared memory between machines the write-ahead log is for one mount
// at a time; rollback journals work on both.
TEST_P(SqliteTest, SurvivesAKilledMountAndIsReadOnAnother) {
  if (GetParam() == std::string("wal") && !LongTestsWanted())
    GTEST_SKIP() << "in short runs with one journal: it waits for the end of a lease";
  const std::string first = cluster_->AddMount() + "/m";
  const pid_t writer = StartWriter(first + "/db");
  ASSERT_TRUE(cluster_test::WaitUntil([&] { return Reported() >= 100; }, 60'000, 5));
  cluster_->KillMount(std::filesystem::path(first).parent_path());
  kill(writer, SIGKILL);
  waitpid(writer, nullptr, 0);
  EXPECT_GE(CheckedRows(mount_directory() + "/db"), Reported());
}

INSTANTIATE_TEST_SUITE_P(Journals, SqliteTest, testing::Values("delete", "wal"),
                         [](const auto& param) { return std::string(param.param); });

TEST_F(ProgramTest, PostgresRecoversFromACrash) {
  NEEDS("initdb");
  NEEDS("pgbench");
  ASSERT_EQ(RunProgram({"id", "postgres"}).exit_code, 0) << "there is no user postgres";
  RunProgram({"chmod", "755", cluster_->directory()});
  const std::string sizes =
      LongTestsWanted() ? "scale=5 first=2000 more=2000\n" : "scale=1 first=100 more=60\n";
  Succeeds(sizes + R"sh(
    mkdir pg; chown postgres pg; chmod 700 pg; mkdir "$L/s"; chown postgres "$L/s"
    as() { setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$L/s" "$@"; }
    start() { as pg_ctl -D "$M/pg" -w -t 60 -l "$L/s/log" -o "-k $L/s -c listen_addresses=''" start >/dev/null || { tail -20 "$L/s/log"; exit 1; }; }
    ask() { as psql -h "$L/s" -At postgres -c "$1"; }
    trap 'as pg_ctl -D "$M/pg" -m immediate stop >/dev/null 2>&1 || true' EXIT
    as initdb -D "$M/pg" -A trust >/dev/null; start
    as pgbench -h "$L/s" -i -s $scale -q postgres >/dev/null 2>&1
    as pgbench -n -h "$L/s" -c 2 -t $first postgres >/dev/null 2>&1
    as pgbench -n -h "$L/s" -c 2 -T 100 postgres >/dev/null 2>&1 & bench=$!
    until test "$(ask 'select count(*) from pgbench_history')" -ge $((2 * first + more)); do sleep 0.05; done
    postmaster=$(head -1 "$M/pg/postmaster.pid"); all="$postmaster $(ps -o pid= --ppid $postmaster)"
    kill -9 $all 2>/dev/null || true; wait $bench || true
    for pid in $all; do while kill -0 $pid 2>/dev/null && ! grep -q 'State:.Z' /proc/$pid/status 2>/dev/null; do sleep 0.05; done; done
    rm -f "$M/pg/postmaster.pid" "$L"/s/.s.PGSQL.*  # where nobody reaps orphans it names a process that still seems to be there
    start
    test "$(ask 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)')" = t
    test "$(ask 'select count(*) from pgbench_history')" -ge $((2 * first + more)))sh",
           300);
}

}  // namespace
}  // namespace cairn::programs_test

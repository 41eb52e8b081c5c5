// Files without a name that somebody still has open: they live on for everybody who has them open, on every mount and through
// restarts of every server, and their space comes back after the last close.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/cluster/harness.h"
#include "tests/coherence/worker.h"

namespace cairn::coherence_test {
namespace {

using cluster_test::LocalCluster;
using cluster_test::WaitUntil;

int64_t Chunks(const LocalCluster& cluster) {
  const nlohmann::json status = cluster.Status();
  return status.is_object() ? std::stoll(status.value("chunks", "-1")) : -1;
}

TEST(OpenFilesTest, AFileWithoutANameLivesOnAcrossMountsAndRestarts) {
  auto cluster = LocalCluster::Start();
  ASSERT_NE(cluster, nullptr);
  const std::string mounts[] = {cluster->mount(), cluster->AddMount()};
  ASSERT_TRUE(cluster->WaitHealthy(30'000));
  Worker writer, reader, remover;
  for (const char* name : {"removed", "replaced"}) {
    writer.Must("open " + std::string(name) + " " + mounts[0] + "/" + name + " rwc");
    writer.Must("write " + std::string(name) + " 0 first of " + name);
    writer.Must("fsync " + std::string(name));
    reader.Must("open " + std::string(name) + " " + mounts[1] + "/" + name + " r");
  }
  EXPECT_GE(Chunks(*cluster), 2);
  remover.Must("unlink " + mounts[1] + "/removed");
  remover.Must("create " + mounts[1] + "/new");
  remover.Must("rename " + mounts[1] + "/new " + mounts[1] + "/replaced");
  EXPECT_EQ(remover.Ask("stat " + mounts[0] + "/removed"), Err(ENOENT));
  EXPECT_EQ(remover.Ask("stat " + mounts[0] + "/replaced"), "ok 0");

  int number = 0;
  const auto both_go_on = [&](const std::string& when) {
    ++number;
    for (const std::string name : {"removed", "replaced"}) {
      EXPECT_EQ(reader.Ask("read " + name + " 0 9"), "ok first of ") << when;
      const std::string text = "line " + std::to_string(number) + " of " + name;
      writer.Must("write " + name + " " + std::to_string(5'000 * number) + " " + text);
      EXPECT_EQ(reader.Ask("read " + name + " " + std::to_string(5'000 * number) + " 100"), "ok " + text) << when;
      EXPECT_EQ(reader.Ask("size " + name), "ok " + std::to_string(5'000 * number + text.size())) << when;
    }
  };
  both_go_on("without a name");
  for (const char* server : {"master", "cs1", "cs2", "cs3"}) {
    cluster->Kill(server);
    cluster->Up({"--only", server});
    both_go_on(std::string("after a restart of ") + server);
  }
  EXPECT_GE(Chunks(*cluster), 2);
  reader.Must("close removed");
  reader.Must("close replaced");
  EXPECT_EQ(writer.Ask("read removed 0 9"), "ok first of ");
  writer.Must("close removed");
  writer.Must("close replaced");
  EXPECT_TRUE(WaitUntil([&] { return Chunks(*cluster) == 0; }, 60'000)) << cluster->Status().dump(1);
}

}  // namespace
}  // namespace cairn::coherence_test

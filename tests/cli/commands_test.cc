// Whole commands against an in-memory cluster.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/admin/admin.h"
#include "cli/core/app.h"
#include "tests/fake_client/fake_client.h"

namespace cairn::cli {
namespace {

namespace fs = std::filesystem;
using cairn::testing::FakeClient;
using cairn::testing::FakeCluster;

class CommandsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/cairn-commands-test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    local_ = pattern;
  }
  void TearDown() override { fs::remove_all(local_); }

  int Run(std::vector<std::string> arguments) {
    out_.str("");
    err_.str("");
    Context context;
    context.connect = [this](const client::ClientOptions&) -> Result<std::unique_ptr<client::Client>> {
      ++sessions_;
      return std::unique_ptr<client::Client>(std::make_unique<FakeClient>(cluster_));
    };
    context.out = &out_;
    context.err = &err_;
    std::vector<const char*> argv{"cairn", "--master", "fake:1"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    return RunCommandLine(context, static_cast<int>(argv.size()), argv.data());
  }
  std::string Out() const { return out_.str(); }
  std::string Err() const { return err_.str(); }
  std::string Local(const std::string& name) const { return local_ + "/" + name; }
  void WriteLocal(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(Local(name)).parent_path());
    std::ofstream(Local(name), std::ios::binary) << content;
  }
  std::string ReadLocal(const std::string& name) const {
    std::ifstream file(Local(name), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // Names in a directory of the cluster, also hidden ones.
  std::vector<std::string> Names(const std::string& path) {
    FakeClient client(cluster_);
    std::vector<std::string> names;
    const auto directory = client::ResolvePath(client, {}, path, true);
    if (!directory.ok()) return names;
    const auto entries = client.ReadDirectory({}, directory->attr.inode, 0, 10'000, false);
    for (const auto& entry : *entries) names.push_back(entry.name);
    return names;
  }

  const std::shared_ptr<FakeCluster> cluster_ = std::make_shared<FakeCluster>();
  std::string local_;
  std::stringstream out_, err_;
  int sessions_ = 0;
};

TEST_F(CommandsTest, WrongUsageIsTold) {
  EXPECT_EQ(Run({}), kExitUsage);
  EXPECT_EQ(Run({"no-such-command"}), kExitUsage);
  EXPECT_EQ(Run({"help", "no-such-command"}), kExitUsage);
  EXPECT_EQ(Run({"help", "cp"}), kExitOk);
  EXPECT_NE(Out().find("--verify"), std::string::npos);
  EXPECT_EQ(Run({"version"}), kExitOk);
  EXPECT_EQ(Out().rfind("cairn ", 0), 0U);
}

TEST_F(CommandsTest, AFileGoesInAndComesBack) {
  const std::string content = "line\n" + std::string(3'000'000, 'x') + "end";
  WriteLocal("a", content);
  ASSERT_EQ(Run({"cp", Local("a"), "cairn:/copy"}), kExitOk) << Err();
  ::testing::internal::CaptureStdout();  // cat writes to descriptor 1, without a copy through a stream
  EXPECT_EQ(Run({"cat", "/copy"}), kExitOk);
  EXPECT_TRUE(::testing::internal::GetCapturedStdout() == content);
  ASSERT_EQ(Run({"cp", "cairn:/copy", Local("back")}), kExitOk) << Err();
  EXPECT_TRUE(ReadLocal("back") == content);
  EXPECT_EQ(Names("/"), (std::vector<std::string>{"copy"})) << "no temporary name may stay";
}

TEST_F(CommandsTest, WithinTheClusterTheChunkserversCopy) {
  const std::string content = "line\n" + std::string(3'000'000, 'x') + "end";
  WriteLocal("a", content);
  ASSERT_EQ(Run({"cp", Local("a"), "cairn:/first"}), kExitOk) << Err();
  EXPECT_EQ(cluster_->copied_bytes(), 0u);
  ASSERT_EQ(Run({"cp", "--verify", "cairn:/first", "cairn:/second"}), kExitOk) << Err();
  EXPECT_EQ(cluster_->copied_bytes(), content.size());
  ASSERT_EQ(Run({"cp", "cairn:/second", Local("back")}), kExitOk) << Err();
  EXPECT_TRUE(ReadLocal("back") == content);
  EXPECT_EQ(cluster_->copied_bytes(), content.size());
  // Over a longer file, and of an empty one.
  WriteLocal("b", "short");
  ASSERT_EQ(Run({"cp", Local("b"), "cairn:/b"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", "cairn:/b", "cairn:/second"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", "cairn:/second", Local("back")}), kExitOk) << Err();
  EXPECT_EQ(ReadLocal("back"), "short");
  WriteLocal("c", "");
  ASSERT_EQ(Run({"cp", Local("c"), "cairn:/c"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", "cairn:/c", "cairn:/second"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", "cairn:/second", Local("back")}), kExitOk) << Err();
  EXPECT_EQ(ReadLocal("back"), "");
}

TEST_F(CommandsTest, ATreeGoesInAndComesBackWithModesTimesAndLinks) {
  WriteLocal("tree/a", "A");
  WriteLocal("tree/sub/b", "B");
  WriteLocal("tree/sub/odd \xff name\n", "odd");
  fs::create_symlink("sub/b", Local("tree/link"));
  ASSERT_EQ(chmod(Local("tree/a").c_str(), 0640), 0);
  const timespec times[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 5},
                             {.tv_sec = 1'000'000'000, .tv_nsec = 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, Local("tree/a").c_str(), times, 0), 0);
  ASSERT_EQ(Run({"cp", "-a", Local("tree"), "cairn:/in"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", "-a", "cairn:/in", Local("out")}), kExitOk) << Err();
  EXPECT_EQ(ReadLocal("out/a"), "A");
  EXPECT_EQ(ReadLocal("out/sub/b"), "B");
  EXPECT_EQ(ReadLocal("out/sub/odd \xff name\n"), "odd");
  EXPECT_EQ(fs::read_symlink(Local("out/link")), "sub/b");
  struct stat info {};
  ASSERT_EQ(stat(Local("out/a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640U);
  EXPECT_EQ(info.st_mtim.tv_sec, 1'000'000'000);
}

TEST_F(CommandsTest, IntoAnExistingDirectoryTheNameIsKept) {
  WriteLocal("a", "A");
  ASSERT_EQ(Run({"mkdir", "/dir"}), kExitOk) << Err();
  ASSERT_EQ(Run({"cp", Local("a"), "cairn:/dir"}), kExitOk) << Err();
  EXPECT_EQ(Names("/dir"), (std::vector<std::string>{"a"}));
  EXPECT_NE(Run({"cp", Local("a"), "cairn:/absent/"}), kExitOk) << "a trailing slash names a directory";
  EXPECT_NE(Run({"cp", Local("a"), "cairn:/absent/b"}), kExitOk);
}

TEST_F(CommandsTest, AFailedCopyLeavesNothingBehind) {
  WriteLocal("a", "A");
  cluster_->Fail("write", {StatusCode::kNoSpace, "the cluster is full"}, 100);
  EXPECT_NE(Run({"cp", Local("a"), "cairn:/copy"}), kExitOk);
  EXPECT_NE(Err().find("the cluster is full"), std::string::npos) << Err();
  EXPECT_TRUE(Names("/").empty());
}

TEST_F(CommandsTest, AnOldFileStaysWholeWhenItsReplacementFails) {
  WriteLocal("a", "old");
  ASSERT_EQ(Run({"cp", Local("a"), "cairn:/copy"}), kExitOk) << Err();
  WriteLocal("a", "new content");
  cluster_->Fail("close", {StatusCode::kNoQuorum, "1 of 2 confirmations"}, 100);
  cluster_->Fail("flush", {StatusCode::kNoQuorum, "1 of 2 confirmations"}, 100);
  EXPECT_NE(Run({"cp", Local("a"), "cairn:/copy"}), kExitOk);
  cluster_->Fail("close", {StatusCode::kIoError, ""}, 0);
  cluster_->Fail("flush", {StatusCode::kIoError, ""}, 0);
  ASSERT_EQ(Run({"cp", "cairn:/copy", Local("back")}), kExitOk) << Err();
  EXPECT_EQ(ReadLocal("back"), "old");
}

TEST_F(CommandsTest, VerifyReadsInASessionOfItsOwn) {
  WriteLocal("a", "A");
  ASSERT_EQ(Run({"cp", "--verify", Local("a"), "cairn:/copy"}), kExitOk) << Err();
  EXPECT_GE(sessions_, 2);
}

TEST_F(CommandsTest, NamesAreListedMadeMovedAndRemoved) {
  ASSERT_EQ(Run({"mkdir", "-p", "/a/b/c"}), kExitOk) << Err();
  ASSERT_EQ(Run({"touch", "/a/file"}), kExitOk) << Err();
  ASSERT_EQ(Run({"ln", "-s", "file", "/a/soft"}), kExitOk) << Err();
  ASSERT_EQ(Run({"ln", "/a/file", "/a/hard"}), kExitOk) << Err();
  ASSERT_EQ(Run({"chmod", "600", "/a/file"}), kExitOk) << Err();
  ASSERT_EQ(Run({"ls", "/a"}), kExitOk) << Err();
  for (const char* name : {"b", "file", "soft", "hard"})
    EXPECT_NE(Out().find(name), std::string::npos) << Out();
  ASSERT_EQ(Run({"ls", "--json", "/a"}), kExitOk) << Err();
  EXPECT_TRUE(nlohmann::json::accept(Out())) << Out();
  ASSERT_EQ(Run({"stat", "--json", "/a/file"}), kExitOk) << Err();
  EXPECT_TRUE(nlohmann::json::accept(Out())) << Out();
  ASSERT_EQ(Run({"mv", "/a/file", "/a/b/moved"}), kExitOk) << Err();
  EXPECT_EQ(Names("/a/b"), (std::vector<std::string>{"c", "moved"}));
  EXPECT_EQ(Run({"rmdir", "/a"}), kExitFailure);
  EXPECT_EQ(Run({"rm", "/a/b"}), kExitFailure) << "a directory needs -r";
  ASSERT_EQ(Run({"find", "/a"}), kExitOk) << Err();
  EXPECT_NE(Out().find("/a/b/moved"), std::string::npos) << Out();
  ASSERT_EQ(Run({"du", "/a"}), kExitOk) << Err();
  ASSERT_EQ(Run({"df", "/"}), kExitOk) << Err();
  ASSERT_EQ(Run({"rm", "-r", "/a"}), kExitOk) << Err();
  EXPECT_TRUE(Names("/").empty());
  EXPECT_EQ(Run({"ls", "/a"}), kExitFailure);
  EXPECT_EQ(Run({"rm", "-f", "/a"}), kExitOk);
}

TEST_F(CommandsTest, FilesThatAnotherSessionWritesAreListedAndCopiedToo) {
  WriteLocal("tree/a", "A");
  ASSERT_EQ(Run({"cp", "-r", Local("tree"), "cairn:/tree"}), kExitOk) << Err();
  cluster_->attributes_in_listings = false;
  ASSERT_EQ(Run({"ls", "/tree"}), kExitOk) << Err();
  EXPECT_EQ(Out(), "a\n");
  ASSERT_EQ(Run({"cp", "-r", "cairn:/tree", Local("out")}), kExitOk) << Err();
  EXPECT_EQ(ReadLocal("out/a"), "A");
}

// Anybody can make such a tree, so no command may need a stack, or memory for all its paths, that grows with it.
TEST_F(CommandsTest, TreesDeeperThanTheStackAllowsAreWalked) {
  const auto chain = [&](const std::string& name, int levels) {
    FakeClient client(cluster_);
    const client::Caller root{};
    InodeId at = client.Mkdir(root, kRootInode, name, 0755)->attr.inode;
    for (int i = 0; i < levels; ++i) at = client.Mkdir(root, at, "d", 0755)->attr.inode;
    ASSERT_TRUE(client.Symlink(root, at, "leaf", "target").ok());
  };
  chain("deep", 6'000);
  chain("deeper", 10'000);
  chain("a", 2'000);  // as deep as a path can name
  int exit_code = -1;
  const auto run = [&](std::vector<std::string> arguments) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    std::function<void()> work = [&] { exit_code = Run(arguments); };
    pthread_t thread;
    ASSERT_EQ(pthread_create(&thread, &attributes,
                             [](void* argument) -> void* {
                               (*static_cast<std::function<void()>*>(argument))();
                               return nullptr;
                             },
                             &work),
              0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
  };
  run({"find", "/deeper", "--name", "leaf"});
  EXPECT_EQ(exit_code, kExitOk) << Err().substr(0, 500);
  EXPECT_EQ(Out().size(), std::string("/deeper/leaf\n").size() + 2 * 10'000);
  run({"du", "-s", "/deeper"});
  EXPECT_EQ(exit_code, kExitOk) << Err().substr(0, 500);
  run({"chmod", "-R", "700", "/deeper"});
  EXPECT_EQ(exit_code, kExitOk) << Err().substr(0, 500);
  run({"ls", "-R", "/deep"});
  EXPECT_EQ(exit_code, kExitOk) << Err().substr(0, 500);
  EXPECT_NE(Out().find("leaf"), std::string::npos);
  run({"cp", "-r", "cairn:/a", "cairn:/b"});
  EXPECT_EQ(exit_code, kExitOk) << Err().substr(0, 500);
  run({"find", "/b", "--name", "leaf"});
  EXPECT_EQ(Out().size(), std::string("/b/leaf\n").size() + 2 * 2'000);
  run({"cp", "-r", "cairn:/deep", "cairn:/copy"});
  EXPECT_EQ(exit_code, kExitFailure) << "its paths are too long";
  EXPECT_NE(Err().find("4096"), std::string::npos) << Err().substr(0, 500);
  for (const char* name : {"/a", "/b", "/deep", "/deeper", "/copy"}) {
    run({"rm", "-r", name});
    EXPECT_EQ(exit_code, kExitOk) << name << Err().substr(0, 500);
  }
  EXPECT_TRUE(Names("/").empty());
}

TEST_F(CommandsTest, AFailedDeleteIsToldWithItsReason) {
  ASSERT_EQ(Run({"touch", "/file"}), kExitOk) << Err();
  cluster_->Fail("unlink", {StatusCode::kNoQuorum, "cs1 and cs2 did not confirm the delete"});
  EXPECT_EQ(Run({"rm", "/file"}), kExitUnavailable);
  EXPECT_NE(Err().find("cs1 and cs2 did not confirm"), std::string::npos) << Err();
  EXPECT_EQ(Names("/"), (std::vector<std::string>{"file"}));
}

TEST_F(CommandsTest, PoliciesAreShownSetAndInherited) {
  ASSERT_EQ(Run({"mkdir", "-p", "/a/b"}), kExitOk);
  ASSERT_EQ(Run({"policy", "get", "/a/b", "--json"}), kExitOk) << Err();
  EXPECT_EQ(nlohmann::json::parse(Out())["effective"]["replicas"], 3);
  const int set = Run({"policy", "set", "/a", "replicas=2,write_quorum=2"});
  if (getuid() != 0) {
    EXPECT_EQ(set, kExitFailure);
    return;
  }
  ASSERT_EQ(set, kExitOk) << Err();
  ASSERT_EQ(Run({"policy", "get", "/a/b", "--json"}), kExitOk) << Err();
  const auto json = nlohmann::json::parse(Out());
  EXPECT_EQ(json["own"]["replicas"], 0);
  EXPECT_EQ(json["effective"]["replicas"], 2);
  EXPECT_EQ(json["set_at"]["replicas"], "/a");
  EXPECT_EQ(json["set_at"]["write_quorum"], "/a");
  EXPECT_EQ(json["set_at"]["chunk_bytes"], "/");
  ASSERT_EQ(Run({"policy", "get", "/a/b/"}), kExitOk) << Err();
  EXPECT_NE(Out().find("replicas from /a, write_quorum from /a, chunk_bytes from /"), std::string::npos) << Out();
  FakeClient client(cluster_);
  ASSERT_TRUE(client.Symlink(client::Caller{}, kRootInode, "link", "a/b").ok());
  ASSERT_EQ(Run({"policy", "get", "/link"}), kExitOk) << Err();
  EXPECT_NE(Out().find("replicas from /a, write_quorum from /a, chunk_bytes from /"), std::string::npos) << Out();
  EXPECT_EQ(Run({"policy", "set", "/a", "replicas=1,write_quorum=2"}), kExitUsage);
}

TEST_F(CommandsTest, AnUnknownClusterIsUnreachable) {
  Context context;
  context.connect = [](const client::ClientOptions&) -> Result<std::unique_ptr<client::Client>> {
    return Status(StatusCode::kUnavailable, "nobody listens at nowhere:1");
  };
  context.out = &out_;
  context.err = &err_;
  const char* argv[] = {"cairn", "ls", "cairn://nowhere:1/"};
  EXPECT_EQ(RunCommandLine(context, 3, argv), kExitUnavailable);
  EXPECT_NE(Err().find("nobody listens"), std::string::npos);
}

TEST(ChunkCommandTest, IdsAreDecimalOrHexadecimal) {
  EXPECT_EQ(*ParseChunkId("42"), 42U);
  EXPECT_EQ(*ParseChunkId("0x2A"), 42U);
  for (const char* bad : {"0", "0x", "0x0", "4x", "0x1g", "99999999999999999999", ""})
    EXPECT_FALSE(ParseChunkId(bad).ok()) << bad;
  EXPECT_TRUE(LooksLikeChunkId("0x2a"));
  EXPECT_FALSE(LooksLikeChunkId("/42"));
  EXPECT_FALSE(LooksLikeChunkId("file"));
}

TEST(ChunkCommandTest, AnExplanationNamesReplicasReasonsAndTheNextAttempt) {
  proto::ExplainChunkResponse chunk;
  chunk.set_chunk(42);
  chunk.set_path("/precious");
  chunk.set_state("sealed");
  chunk.set_replicas(3);
  chunk.set_write_quorum(2);
  chunk.mutable_sealed()->set_epoch(7);
  chunk.mutable_sealed()->set_seq(3);
  auto* member = chunk.add_members();
  member->set_server(2);
  member->set_address("127.0.0.1:5");
  member->set_state("corrupt");
  member->set_detail("block 17");
  chunk.add_reasons("2 of 3 copies are current");
  chunk.set_next_attempt("repair of cs2 in 3 s");
  const std::string text = ExplainText(chunk);
  for (const char* part :
       {"/precious", "0x000000000000002a", "7.3", "cs2", "corrupt", "block 17", "2 of 3", "in 3 s"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in\n" << text;
  }
}

}  // namespace
}  // namespace cairn::cli

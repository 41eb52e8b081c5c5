// The copy engine between local trees: what cp(1) does, and what it adds.
#include "cli/copy/copier.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace cairn::cli {
namespace {
namespace fs = std::filesystem;

class CopierTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cairn-copy-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
    context_.out = &out_;
    context_.err = &err_;
    tree_ = MakeLocalTree();
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string P(const std::string& name) const { return root_ + "/" + name; }
  void Put(const std::string& name, const std::string& content) {
    fs::create_directories(fs::path(P(name)).parent_path());
    std::ofstream(P(name), std::ios::binary) << content;
  }
  std::string Get(const std::string& name) const {
    std::ifstream file(P(name), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return file ? text.str() : "(absent)";
  }
  std::vector<CopiedFile> Copy(const std::string& from, const std::string& to, const CopyOptions& options) {
    Progress progress(err_, false, "copied");
    Copier copier(context_, options, *tree_, *tree_, true, progress);
    copier.Run(P(from), P(to));
    skipped_ = copier.skipped();
    return copier.copied();
  }
  size_t NamesIn(const std::string& directory) const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(P(directory)), fs::directory_iterator()));
  }

  std::string root_;
  std::stringstream out_, err_;
  Context context_;
  std::unique_ptr<Tree> tree_;
  uint64_t skipped_ = 0;
};

CopyOptions Archive() {
  CopyOptions options;
  options.recursive = options.keep_hard_links = true;
  options.follow_links = false;
  options.preserve = {.mode = true, .owner = true, .times = true, .xattrs = true};
  return options;
}

TEST_F(CopierTest, ArchiveKeepsLinksModesAndTimes) {
  Put("src/a", "alpha");
  Put("src/sub/b", std::string(3'000'000, 'b'));
  ASSERT_EQ(link(P("src/a").c_str(), P("src/hard").c_str()), 0);
  ASSERT_EQ(symlink("a", P("src/soft").c_str()), 0);
  ASSERT_EQ(chmod(P("src/a").c_str(), 0751), 0);
  const timespec old[2] = {{1000, 5}, {2000, 6}};
  ASSERT_EQ(utimensat(AT_FDCWD, P("src/a").c_str(), old, 0), 0);
  ASSERT_EQ(utimensat(AT_FDCWD, P("src/sub").c_str(), old, 0), 0);
  Copy("src", "dst", Archive());
  EXPECT_EQ(context_.exit_code, kExitOk) << err_.str();
  struct stat a {
  }, hard{}, sub{};
  ASSERT_EQ(lstat(P("dst/a").c_str(), &a), 0);
  ASSERT_EQ(lstat(P("dst/hard").c_str(), &hard), 0);
  ASSERT_EQ(lstat(P("dst/sub").c_str(), &sub), 0);
  EXPECT_EQ(a.st_ino, hard.st_ino);
  EXPECT_EQ(a.st_mode & 07777, 0751u);
  EXPECT_EQ(a.st_mtim.tv_sec, 2000);
  EXPECT_EQ(a.st_mtim.tv_nsec, 6);
  EXPECT_EQ(sub.st_mtim.tv_sec, 2000) << "the copy of what is inside must not change the directory's time";
  EXPECT_EQ(fs::read_symlink(P("dst/soft")), "a");
  EXPECT_EQ(Get("dst/sub/b"), std::string(3'000'000, 'b'));
}

TEST_F(CopierTest, HolesStayHoles) {
  const int fd = open(P("sparse").c_str(), O_CREAT | O_WRONLY, 0644);
  ASSERT_EQ(pwrite(fd, "end", 3, 50'000'000), 3);
  close(fd);
  Copy("sparse", "copy", {});
  struct stat info {};
  ASSERT_EQ(stat(P("copy").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 50'000'003);
  EXPECT_LT(info.st_blocks * 512, 1'000'000);
  EXPECT_EQ(Get("copy").substr(49'999'999), std::string(1, '\0') + "end");
}

TEST_F(CopierTest, AnExistingFileKeepsItsModeAndIsReplacedWhole) {
  Put("new", "new content");
  Put("old", "something longer than the new content");
  ASSERT_EQ(chmod(P("old").c_str(), 0600), 0);
  Copy("new", "old", {});
  EXPECT_EQ(Get("old"), "new content");
  struct stat info {};
  ASSERT_EQ(stat(P("old").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(NamesIn(""), 2u) << "a temporary name was left";
}

TEST_F(CopierTest, RefusesWhatCpRefuses) {
  Put("dir/x", "x");
  Put("file", "f");
  Copy("dir", "dir2", {});
  EXPECT_NE(err_.str().find("is a directory (use -r)"), std::string::npos) << err_.str();
  Copy("file", "dir", {});
  EXPECT_NE(err_.str().find("cannot replace a directory by a file"), std::string::npos) << err_.str();
  Copy("file", "file", {});
  EXPECT_NE(err_.str().find("are the same file"), std::string::npos) << err_.str();
  Copy("dir", "dir/inside", Archive());
  EXPECT_NE(err_.str().find("into itself"), std::string::npos) << err_.str();
  EXPECT_EQ(context_.exit_code, kExitFailure);
}

TEST_F(CopierTest, ResumeSkipsEqualContentNotEqualSize) {
  Put("src/same", "12345");
  Put("src/changed", "abcde");
  Put("dst/same", "12345");
  Put("dst/changed", "abXde");
  CopyOptions options = Archive();
  options.resume = true;
  Copy("src", "dst", options);
  EXPECT_EQ(Get("dst/changed"), "abcde");
  EXPECT_EQ(skipped_, 1u);
}

TEST_F(CopierTest, ResumeGoesOnWithAPartAndMendsItsDamage) {
  std::string content;
  for (int i = 0; i < 700'000; ++i) content += std::to_string(i);
  Put("big", content);
  std::string part = content.substr(0, 2'500'000);
  part[1'500'000] ^= 1;
  Put(".copy.cairn-part", part + std::string(5'000'000, 'z'));
  CopyOptions options;
  options.resume = true;
  Copy("big", "copy", options);
  EXPECT_TRUE(Get("copy") == content) << err_.str();
  EXPECT_FALSE(fs::exists(P(".copy.cairn-part")));
}

TEST_F(CopierTest, VerifyFindsAChangedByte) {
  Put("src/a", std::string(100'000, 'a'));
  Put("src/b", "b");
  const auto copied = Copy("src", "dst", Archive());
  ASSERT_EQ(copied.size(), 2u);
  {
    Progress progress(err_, false, "verified");
    EXPECT_EQ(VerifyCopies(context_, *tree_, *tree_, copied, progress), 0u);
  }
  EXPECT_EQ(context_.exit_code, kExitOk);
  std::fstream file(P("dst/a"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(77'777);
  file.put('x');
  file.close();
  Progress progress(err_, false, "verified");
  EXPECT_EQ(VerifyCopies(context_, *tree_, *tree_, copied, progress), 1u);
  EXPECT_EQ(context_.exit_code, kExitMismatch);
}

TEST_F(CopierTest, WritesThroughASymbolicLinkAndLeavesIt) {
  Put("real", "old");
  Put("new", "new");
  ASSERT_EQ(symlink("real", P("link").c_str()), 0);
  Copy("new", "link", {});
  EXPECT_EQ(Get("real"), "new");
  EXPECT_TRUE(fs::is_symlink(P("link")));
}

}  // namespace
}  // namespace cairn::cli

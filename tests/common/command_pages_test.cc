#include "common/command_pages.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace cairn {
namespace {

class CommandPagesTest : public testing::Test {
 protected:
  CommandPagesTest() : app_("An example") {
    app_.name("cairn-example");
    app_.footer("Notes:\n.dotted\n'quoted");
    app_.add_option("--master", master_, "Address, e.g. m1-a:9400");
    app_.add_option("--secret", master_, "not for people")->group("");
    CLI::App* list = app_.add_subcommand("list", "Lists things");
    list->add_flag("-l,--long", long_, "In detail");
    list->add_option("path", path_, "What to list")->required();
    CLI::App* chunk = app_.add_subcommand("chunk", "Chunks");
    chunk->add_subcommand("explain", "Says why");
    chunk->add_subcommand("accept-loss", "Gives up");
  }

  // What bash offers after `words`.
  std::string Complete(const std::string& words, int position) {
    char directory[] = "/tmp/cairn-pages-test-XXXXXX";
    if (mkdtemp(directory) == nullptr) return "mkdtemp failed";
    const std::string script = std::string(directory) + "/completion";
    std::ofstream(script) << BashCompletion(app_, options_) << "cd " << directory << "/empty\nCOMP_WORDS=("
                          << words << ")\nCOMP_CWORD=" << position
                          << "\n_cairn_example\necho \"${COMPREPLY[*]}\"\n";
    std::filesystem::create_directory(std::string(directory) + "/empty");
    FILE* bash = popen(("bash " + script + " 2>&1").c_str(), "r");
    std::string result;
    char buffer[256];
    while (bash != nullptr && fgets(buffer, sizeof buffer, bash) != nullptr) result += buffer;
    if (bash != nullptr) pclose(bash);
    std::filesystem::remove_all(directory);
    while (result.ends_with('\n')) result.pop_back();
    return result;
  }

  const PageOptions options_{.program = "cairn-example", .version = "1.2", .section = 8};
  std::string master_, path_;
  bool long_ = false;
  CLI::App app_;
};

TEST_F(CommandPagesTest, TheManualNamesCommandsAndOptionsWithTheirDescriptions) {
  const std::string page = ManPage(app_, options_);
  EXPECT_TRUE(page.starts_with(".TH CAIRN\\-EXAMPLE 8 ")) << page;
  for (const char* part :
       {"cairn\\-example \\- An example", "\\fB\\-\\-master\\fR", "Address, e.g. m1\\-a:9400",
        ".SS \"cairn\\-example list\"", "\\fB\\-l, \\-\\-long\\fR", "\\fIpath\\fR", "What to list",
        ".SS \"cairn\\-example chunk accept\\-loss\"", "Gives up"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << " is missing in\n" << page;
  }
  EXPECT_EQ(page.find("secret"), std::string::npos);
}

TEST_F(CommandPagesTest, TextNeverBecomesARequestOfTheFormatter) {
  const std::string page = ManPage(app_, options_);
  EXPECT_NE(page.find("\n\\&.dotted\n\\&'quoted\n"), std::string::npos) << page;
}

TEST_F(CommandPagesTest, BashCompletesCommandsAndFlagsOfTheCommandGiven) {
  EXPECT_EQ(Complete("cairn-example ''", 1), "list chunk");
  EXPECT_EQ(Complete("cairn-example ch", 1), "chunk");
  EXPECT_EQ(Complete("cairn-example chunk ''", 2), "explain accept-loss");
  EXPECT_EQ(Complete("cairn-example list --", 2), "--help --long");
  EXPECT_EQ(Complete("cairn-example --master m:1 chunk a", 4), "accept-loss");
}

TEST_F(CommandPagesTest, OnlyTheExactRequestGeneratesAPage) {
  const char* man[] = {"cairn-example", "--generate", "man"};
  EXPECT_EQ(GeneratedPage(app_, options_, 3, man), ManPage(app_, options_));
  const char* other[] = {"cairn-example", "--generate", "html"};
  EXPECT_FALSE(GeneratedPage(app_, options_, 3, other).has_value());
  EXPECT_FALSE(GeneratedPage(app_, options_, 2, man).has_value());
}

}  // namespace
}  // namespace cairn

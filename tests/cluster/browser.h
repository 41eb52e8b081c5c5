// Chromium without a screen, driven by Debian's chromedriver over the WebDriver protocol
// (https://www.w3.org/TR/webdriver2/).
//
// Thread-safety: one thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace httplib {
class Client;
}

namespace cairn::cluster_test {

class Browser {
 public:
  // Null, with why in `problem`, when the programs are missing or do not start.
  static std::unique_ptr<Browser> Start(std::string* problem);
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void Open(const std::string& url);
  // The body of a function; its `arguments` are `arguments`. The test fails when it throws.
  nlohmann::json Run(const std::string& script, nlohmann::json arguments = nlohmann::json::array());
  // Whether the script answers true in time; a page that reloads meanwhile counts as false.
  bool Wait(const std::string& script, int64_t timeout_ms = 30'000);
  void Resize(int width, int height);
  void Prefer(const std::string& scheme);  // "light", "dark"
  // A PNG of what is seen.
  std::string Screenshot();
  // What was written to the browser's console since the last call, each with its level.
  std::vector<std::string> Messages();

 private:
  Browser() = default;
  // The value of the answer; null when there was an error, which is in error_ then.
  nlohmann::json Call(const std::string& method, const std::string& path, const nlohmann::json& body);
  nlohmann::json Command(const std::string& name, const nlohmann::json& parameters);

  pid_t driver_ = 0;
  std::string profile_;
  std::string session_;
  std::unique_ptr<httplib::Client> http_;
  std::string error_;
};

}  // namespace cairn::cluster_test

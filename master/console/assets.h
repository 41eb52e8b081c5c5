// The console's pages, style and scripts: files of master/console/static, compiled into the binary.
//
// Thread-safety: constants.
#pragma once

#include <string>
#include <string_view>

namespace cairn::master::console {

struct Asset {
  std::string_view path;  // as in the URL: "/pages/overview.js"
  std::string_view content;
};

// Null: there is no such file. "/" is the page itself.
const Asset* FindAsset(std::string_view path);
// By the end of its name.
std::string ContentType(std::string_view path);

}  // namespace cairn::master::console

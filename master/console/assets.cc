#include "master/console/assets.h"

#include <array>
#include <span>
#include <utility>

namespace cairn::master::console {

std::span<const Asset> AllAssets();  // made by embed_assets.cmake

const Asset* FindAsset(std::string_view path) {
  if (path == "/") path = "/index.html";
  for (const Asset& asset : AllAssets()) {
    if (asset.path == path) return &asset;
  }
  return nullptr;
}

std::string ContentType(std::string_view path) {
  constexpr std::array<std::pair<std::string_view, const char*>, 4> kTypes = {{
      {".html", "text/html; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".svg", "image/svg+xml"},
  }};
  for (const auto& [end, type] : kTypes) {
    if (path.ends_with(end)) return type;
  }
  return "text/html; charset=utf-8";
}

}  // namespace cairn::master::console

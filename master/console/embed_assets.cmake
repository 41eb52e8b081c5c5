# Writes a source file that holds every file of a folder as an array:
#   cmake -D SOURCE=folder -D OUTPUT=file.cc -P embed_assets.cmake
file(GLOB_RECURSE files RELATIVE ${SOURCE} ${SOURCE}/*)
list(SORT files)
set(arrays "")
set(table "")
set(number 0)
foreach(name ${files})
  file(READ ${SOURCE}/${name} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "constexpr unsigned char kFile${number}[] = {${bytes}0};\n")
  string(APPEND table "    Asset{\"/${name}\", {reinterpret_cast<const char*>(kFile${number}), sizeof kFile${number} - 1}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Made by embed_assets.cmake.
#include <array>
#include <span>

#include \"master/console/assets.h\"

namespace cairn::master::console {
namespace {
${arrays}
}  // namespace

std::span<const Asset> AllAssets() {
  static const std::array<Asset, ${number}> assets = {
${table}  };
  return assets;
}

}  // namespace cairn::master::console
")

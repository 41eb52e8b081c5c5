// Assertions that stay on in release builds. They guard what only a bug in this process can break; whatever a
// peer, a disk or a user sends is checked and answered with a Status instead.
#pragma once

#include <string_view>

namespace cairn::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, std::string_view message);
}  // namespace cairn::internal

#define CAIRN_CHECK(condition, ...)                                                                    \
  do {                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                     \
      ::cairn::internal::CheckFailed(__FILE__, __LINE__, #condition, ::std::string_view{__VA_ARGS__}); \
  } while (false)

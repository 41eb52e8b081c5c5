#include "common/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace cairn {
namespace {

TEST(Status, EveryCodeHasAnErrnoAndAUniqueName) {
  std::set<std::string_view> names;
  int known = 0;
  for (uint32_t value = 0; value < 256; ++value) {
    if (!IsKnownStatusCode(value)) continue;
    ++known;
    const auto code = static_cast<StatusCode>(value);
    EXPECT_TRUE(names.insert(StatusCodeName(code)).second) << StatusCodeName(code);
    EXPECT_EQ(StatusCodeToErrno(code) == 0, code == StatusCode::kOk);
  }
  EXPECT_GT(known, 40);
}

TEST(Status, ErrnoStatusKeepsWhatCallersActOn) {
  EXPECT_EQ(ErrnoStatus(ENOSPC, "write").code(), StatusCode::kNoSpace);
  EXPECT_EQ(ErrnoStatus(EIO, "write").code(), StatusCode::kIoError);
  EXPECT_EQ(ErrnoStatus(ENOENT, "open /x").message(), "open /x: No such file or directory");
}

Result<int> Half(int value) {
  if (value % 2 != 0) return Status(StatusCode::kInvalidArgument, "odd");
  return value / 2;
}
Result<int> Quarter(int value) {
  CAIRN_ASSIGN_OR_RETURN(const int half, Half(value));
  return Half(half);
}

TEST(Result, ErrorsPropagate) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn

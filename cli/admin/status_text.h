// The master's answer to Status, for people and for programs. Thread-safety: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "client/types.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::cli {

std::string StatusText(const proto::StatusResponse& status);
nlohmann::json StatusJson(const proto::StatusResponse& status);
client::Policy PolicyFrom(const proto::Policy& policy);
nlohmann::json PolicyJson(const client::Policy& policy);

}  // namespace cairn::cli

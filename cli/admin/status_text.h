// The master's answers, for people and for programs. Thread-safety: pure functions.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "client/types.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::cli {

// "2026-11-20 21:45:03  warning  server.down  cs3 (...) is down: ..." with the line's end.
std::string EventLine(const proto::Event& event);
// One line: state, progress, rate in force and why, with the line's end.
std::string RebalanceText(const proto::RebalanceStatus& state);
std::string StatusText(const proto::StatusResponse& status);
// Protocol Buffers' JSON mapping with the names of the .proto files: 64-bit integers are strings, nothing is
// left out.
nlohmann::json ToJson(const google::protobuf::Message& message);
client::Policy PolicyFrom(const proto::Policy& policy);
nlohmann::json PolicyJson(const client::Policy& policy);

}  // namespace cairn::cli

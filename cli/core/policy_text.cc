#include "cli/core/policy_text.h"

#include <bit>
#include <sstream>

#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr uint64_t kMaxReplicas = 16;
constexpr uint64_t kMaxScatterWidth = 1000;
constexpr uint64_t kMinChunkBytes = 64 << 10;
constexpr uint64_t kMaxChunkBytes = 1ull << 30;

Status Invalid(const std::string& message) { return {StatusCode::kInvalidArgument, "policy: " + message}; }

}  // namespace

std::string DurationText(uint64_t seconds) {
  if (seconds == 0) return "off";
  if (seconds % 86400 == 0) return std::to_string(seconds / 86400) + "d";
  if (seconds % 3600 == 0) return std::to_string(seconds / 3600) + "h";
  if (seconds % 60 == 0) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds) + "s";
}

Result<client::Policy> ParsePolicy(const std::string& text, const client::Policy& base) {
  client::Policy policy = base;
  std::stringstream items(text);
  std::string item;
  bool any = false;
  while (std::getline(items, item, ',')) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos) return Invalid("'" + item + "' is not key=value");
    const std::string key = item.substr(0, equals);
    std::string value = item.substr(equals + 1);
    if (value == "inherit") value.clear();
    any = true;
    if (key == "failure_domain") {
      if (!value.empty() && value != "server" && value != "rack" && value != "zone") {
        return Invalid("failure_domain is server, rack or zone, not '" + value + "'");
      }
      policy.failure_domain = value;
      continue;
    }
    if (key == "storage_class") {
      policy.storage_class = value;
      continue;
    }
    if (key == "trash") {
      policy.trash_seconds.reset();
      if (value == "off") {
        policy.trash_seconds = 0;
      } else if (!value.empty()) {
        auto seconds = ParseDuration(value);
        if (!seconds.ok()) return Invalid(seconds.status().message());
        policy.trash_seconds = *seconds;
      }
      continue;
    }
    if (key == "scatter_width") {
      policy.scatter_width.reset();
      if (value == "off") {
        policy.scatter_width = 0;
      } else if (!value.empty()) {
        CAIRN_ASSIGN_OR_RETURN(const uint64_t width, ParseBytes(value));
        if (width > kMaxScatterWidth)
          return Invalid("scatter_width is at most " + std::to_string(kMaxScatterWidth) + ", or off");
        policy.scatter_width = static_cast<uint32_t>(width);
      }
      continue;
    }
    uint64_t number = 0;
    if (!value.empty()) {
      CAIRN_ASSIGN_OR_RETURN(number, ParseBytes(value));
    }
    if (key == "replicas") {
      if (number > kMaxReplicas) return Invalid("replicas is at most " + std::to_string(kMaxReplicas));
      policy.replicas = static_cast<uint32_t>(number);
    } else if (key == "write_quorum") {
      if (number > kMaxReplicas) return Invalid("write_quorum is at most replicas");
      policy.write_quorum = static_cast<uint32_t>(number);
    } else if (key == "chunk_bytes") {
      if (number != 0 &&
          (!std::has_single_bit(number) || number < kMinChunkBytes || number > kMaxChunkBytes)) {
        return Invalid("chunk_bytes is a power of two from 64KiB to 1GiB");
      }
      policy.chunk_bytes = number;
    } else {
      return Invalid("unknown key '" + key +
                     "' (replicas, write_quorum, chunk_bytes, failure_domain, storage_class, scatter_width, trash)");
    }
  }
  if (!any) return Invalid("nothing given");
  if (policy.replicas != 0 && policy.write_quorum > policy.replicas) {
    return Invalid("write_quorum " + std::to_string(policy.write_quorum) + " is more than replicas " +
                   std::to_string(policy.replicas));
  }
  return policy;
}

std::vector<std::pair<std::string, std::string>> PolicyFields(const client::Policy& policy) {
  std::vector<std::pair<std::string, std::string>> fields;
  if (policy.replicas != 0) fields.emplace_back("replicas", std::to_string(policy.replicas));
  if (policy.write_quorum != 0) fields.emplace_back("write_quorum", std::to_string(policy.write_quorum));
  if (policy.chunk_bytes != 0) {
    fields.emplace_back("chunk_bytes", policy.chunk_bytes % (1 << 20) == 0 ? std::to_string(policy.chunk_bytes >> 20) + "MiB"
                                                                           : std::to_string(policy.chunk_bytes >> 10) + "KiB");
  }
  if (!policy.failure_domain.empty()) fields.emplace_back("failure_domain", policy.failure_domain);
  if (!policy.storage_class.empty()) fields.emplace_back("storage_class", policy.storage_class);
  if (policy.scatter_width)
    fields.emplace_back("scatter_width", *policy.scatter_width == 0 ? std::string("off") : std::to_string(*policy.scatter_width));
  if (policy.trash_seconds) fields.emplace_back("trash", DurationText(*policy.trash_seconds));
  return fields;
}

std::string PolicyText(const client::Policy& policy) {
  std::string text;
  for (const auto& [key, value] : PolicyFields(policy)) text += (text.empty() ? "" : ",") + key + "=" + value;
  return text;
}

}  // namespace cairn::cli

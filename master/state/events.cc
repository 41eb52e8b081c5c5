#include "master/state/events.h"

#include "common/check.h"
#include "master/state/keys.h"

namespace cairn::master {

EventRange EventRangeOf(const MetaReader& reader) {
  const auto value = reader.Get(Family::kMeta, keys::kEventRange);
  if (!value) return {};
  return {keys::NumberAt(*value, 0), keys::NumberAt(*value, 8)};
}

std::vector<NumberedEvent> EventsAfter(const MetaReader& reader, uint64_t after, size_t limit) {
  std::vector<NumberedEvent> out;
  for (auto it = reader.Scan(Family::kEvents, keys::Key(after + 1), ""); it->Valid() && out.size() < limit;
       it->Next()) {
    NumberedEvent event{keys::NumberAt(it->key(), 0), {}};
    CAIRN_CHECK(event.record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())),
                "an event cannot be parsed");
    out.push_back(std::move(event));
  }
  return out;
}

}  // namespace cairn::master

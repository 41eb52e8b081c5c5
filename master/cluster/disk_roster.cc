#include "master/cluster/disk_roster.h"

#include <algorithm>
#include <set>

namespace cairn::master {

RosterChange ReconcileDisks(const DiskRecords& recorded, const DiskInfos& registered, const proto::Time& now) {
  RosterChange change;
  const auto known = [&](const std::string& uuid) {
    return std::any_of(recorded.begin(), recorded.end(),
                       [&](const proto::DiskRecord& disk) { return disk.disk_uuid() == uuid; });
  };
  for (const proto::DiskRecord& record : recorded) {
    proto::DiskRecord next = record;
    const auto here = std::find_if(registered.begin(), registered.end(), [&](const proto::DiskInfo& disk) {
      return disk.disk_uuid() == record.disk_uuid() || (disk.disk_uuid().empty() && disk.path() == record.path());
    });
    const auto instead = std::find_if(registered.begin(), registered.end(), [&](const proto::DiskInfo& disk) {
      return disk.path() == record.path() && !disk.disk_uuid().empty() && !known(disk.disk_uuid()) && disk.amnesic();
    });
    if (here != registered.end()) {
      if (record.missing()) {
        change.events.emplace_back("disk.back", "disk " + here->path() + " (" + record.disk_uuid() + ") is there again");
        next.set_missing(false);
        next.set_absence_settled(false);
        next.clear_since();
      }
      if (next.path() != here->path()) next.set_path(here->path());
    } else if (instead != registered.end()) {
      change.events.emplace_back("disk.replaced", "disk " + record.path() + " (" + record.disk_uuid() +
                                                      ") was replaced by an empty one (" + instead->disk_uuid() +
                                                      "): what it held is copied again");
      continue;
    } else {
      if (!record.missing()) {
        change.events.emplace_back("disk.missing", "disk " + record.path() + " (" + record.disk_uuid() +
                                                       ") is not among its data directories any more: what it held is copied again");
        next.set_missing(true);
        next.set_draining(false);
        *next.mutable_since() = now;
      }
      if (!next.absence_settled()) change.missing.push_back(record.disk_uuid());
    }
    *change.disks.Add() = std::move(next);
  }
  std::set<std::string> added;
  for (const proto::DiskInfo& disk : registered) {
    if (disk.disk_uuid().empty() || known(disk.disk_uuid()) || !added.insert(disk.disk_uuid()).second) continue;
    proto::DiskRecord* record = change.disks.Add();
    record->set_disk_uuid(disk.disk_uuid());
    record->set_path(disk.path());
  }
  change.changed = change.disks.size() != recorded.size();
  for (int i = 0; !change.changed && i < recorded.size(); ++i)
    change.changed = change.disks[i].SerializeAsString() != recorded[i].SerializeAsString();
  return change;
}

}  // namespace cairn::master

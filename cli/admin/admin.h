// The administrator's commands, a function per source file; RegisterAdminCommands (cli/core/context.h) calls
// them all.
#pragma once

#include <string>
#include <vector>

#include "cli/core/context.h"
#include "proto/cairn/admin.pb.h"

namespace cairn::cli {

void RegisterChunkCommands(CLI::App& app, Context& context);  // chunk explain, chunk accept-loss
void RegisterLockCommands(CLI::App& app, Context& context);   // lock ls, lock break
void RegisterMasterCommands(CLI::App& app,
                            Context& context);  // session list, master backup, master restore

void RegisterFsckCommand(CLI::App& app, Context& context);      // fsck
void RegisterServerCommands(CLI::App& app, Context& context);  // server ..., whatif
void RegisterEventCommands(CLI::App& app, Context& context);   // events

void RegisterTrashCommands(CLI::App& app, Context& context);  // trash ..., undelete

void RegisterRebalanceCommands(CLI::App& app, Context& context);  // rebalance ...
void RegisterInsightCommands(CLI::App& app, Context& context);    // top, file explain, support-bundle

class AdminClient;
// "cs3" or "3".
Result<uint32_t> ParseServerId(const std::string& text);
// The same, or an administrator's name of it.
Result<uint32_t> FindServer(AdminClient& admin, const std::string& text);
// "cs3", a name, "rack:B", "zone:west", sorted into the three lists.
Status ParseServerSelection(AdminClient& admin, const std::vector<std::string>& items,
                            google::protobuf::RepeatedField<uint32_t>* servers,
                            google::protobuf::RepeatedPtrField<std::string>* racks,
                            google::protobuf::RepeatedPtrField<std::string>* zones);
std::string ImpactText(const proto::Impact& impact);
// Decimal, or hexadecimal after 0x.
Result<uint64_t> ParseChunkId(const std::string& text);
bool LooksLikeChunkId(const std::string& text);
std::string ExplainText(const proto::ExplainChunkResponse& chunk);

}  // namespace cairn::cli

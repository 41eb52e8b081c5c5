// The operations of the state machine, one function per command. Each answers the outcome; on an error the
// caller undoes what it changed. Results go to c.reply(), changes to c.txn() and c.effects(). Thread-safety:
// one thread per context.
#pragma once

#include "common/status.h"
#include "master/state/context.h"

namespace cairn::master {

// create.cc
Status ApplyCreate(Context& c, const proto::CreateOp& op);
Status ApplyMkdir(Context& c, const proto::MkdirOp& op);
Status ApplyMknod(Context& c, const proto::MknodOp& op);
Status ApplySymlink(Context& c, const proto::SymlinkOp& op);
Status ApplyLink(Context& c, const proto::LinkOp& op);
// remove.cc
Status ApplyUnlink(Context& c, const proto::UnlinkOp& op);
Status ApplyRmdir(Context& c, const proto::RmdirOp& op);
// rename.cc
Status ApplyRename(Context& c, const proto::RenameOp& op);
// set_attr.cc
Status ApplySetAttr(Context& c, const proto::SetAttrOp& op);
// accessed.cc
Status ApplyAccessed(Context& c, const proto::AccessedOp& op);
// xattr.cc
Status ApplySetXattr(Context& c, const proto::SetXattrOp& op);
Status ApplyRemoveXattr(Context& c, const proto::RemoveXattrOp& op);
// lease.cc
Status ApplyAnnounce(Context& c, const proto::AnnounceOp& op);
Status ApplyGrantWriteLease(Context& c, const proto::GrantWriteLeaseCmd& op);
Status ApplyEndWriteLease(Context& c, const proto::EndWriteLeaseCmd& op);
// write_back.cc
Status ApplyWriteBack(Context& c, const proto::WriteBackOp& op);
// session.cc
Status ApplyOpenSession(Context& c, const proto::OpenSessionCmd& op);
Status ApplyCloseSession(Context& c, const proto::CloseSessionCmd& op);
Status ApplyHoldOpen(Context& c, const proto::HoldOpenCmd& op);
Status ApplyCloseOrphans(Context& c, const proto::CloseOrphansOp& op);
Status ApplyReclaimInode(Context& c, const proto::ReclaimInodeCmd& op);
// server.cc
Status ApplyRegisterServer(Context& c, const proto::RegisterServerCmd& op);
Status ApplySetServerMode(Context& c, const proto::SetServerModeCmd& op);
Status ApplySetServerLabels(Context& c, const proto::SetServerLabelsCmd& op);
Status ApplySetServerDisks(Context& c, const proto::SetServerDisksCmd& op);
Status ApplyReserveIds(Context& c, const proto::ReserveIdsCmd& op);
// configuration.cc
Status ApplyBeginReconfiguration(Context& c, const proto::BeginReconfigurationCmd& op);
Status ApplyActivateConfiguration(Context& c, const proto::ActivateConfigurationCmd& op);
Status ApplyReportCarriers(Context& c, const proto::ReportCarriersCmd& op);
Status ApplyMarkDamaged(Context& c, const proto::MarkDamagedCmd& op);
Status ApplyAcceptLoss(Context& c, const proto::AcceptLossCmd& op);
Status ApplyChunkErased(Context& c, const proto::ChunkErasedCmd& op);
// event.cc
Status ApplyRecordEvent(Context& c, const proto::RecordEventCmd& op);
// trash.cc
Status ApplyUndelete(Context& c, const proto::UndeleteOp& op);
Status ApplyTrashPurge(Context& c, const proto::TrashPurgeOp& op);
// repair_metadata.cc. kNotFound: not wrong any more; kDamaged: cannot be decided. Otherwise the reply's status says what was done.
Status ApplyRepairMetadata(Context& c, const proto::RepairMetadataCmd& op);
// rebalance.cc
Status ApplySetRebalance(Context& c, const proto::SetRebalanceCmd& op);
// policy.cc
Status ApplySetPolicy(Context& c, const proto::SetPolicyOp& op);

}  // namespace cairn::master

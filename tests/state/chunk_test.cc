// Write leases and chunks: allocation, opening, sealing, the configuration procedure, truncation and
// deletion.
#include <gmock/gmock.h>

#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr uint64_t kChunk = 64ull << 20;

proto::LayoutOp LayoutOf(InodeId inode, uint64_t first, uint32_t count) {
  proto::LayoutOp op;
  op.set_inode(inode.value());
  op.set_first(first);
  op.set_count(count);
  return op;
}

class ChunkTest : public testing::Test {
 protected:
  // A file under a write lease of kSession with chunk 0 announced.
  ChunkTest() {
    const ApplyResult made = fs_.Create(kRootInode, "f", 0644, true, /*want_write=*/true);
    file_ = FileSystem::InodeOf(made);
    EXPECT_EQ(made.reply.leases_size(), 1);
    lease_ = made.reply.leases(0).number();
    EXPECT_EQ(made.reply.entry().layout_size(), 1);
    chunk_ = ChunkId(made.reply.entry().layout(0).chunk());
  }

  proto::ChunkRecord Record(ChunkId chunk) {
    const auto record = ChunkRecordOf(fs_.txn(), chunk);
    EXPECT_TRUE(record.has_value());
    return record.value_or(proto::ChunkRecord());
  }
  proto::InodeCommit CommitOf(proto::LeaseMode keep = proto::LEASE_WRITE) {
    proto::InodeCommit commit;
    commit.set_inode(file_.value());
    commit.set_lease(lease_);
    commit.set_keep(keep);
    return commit;
  }
  static void AddSeal(proto::InodeCommit* commit, ChunkId chunk, proto::Stamp stamp, uint64_t length,
                      std::vector<uint32_t> carriers) {
    proto::ChunkSeal* seal = commit->add_seals();
    seal->set_chunk(chunk.value());
    *seal->mutable_stamp() = stamp;
    seal->set_length(length);
    for (const uint32_t server : carriers) seal->add_carriers(server);
  }
  // Seals chunk 0 at (its epoch, seq).
  ApplyResult SealAt(uint64_t seq, uint64_t length, proto::LeaseMode keep = proto::LEASE_WRITE) {
    proto::InodeCommit commit = CommitOf(keep);
    AddSeal(&commit, chunk_, MakeStamp(Record(chunk_).epoch(), seq), length, {1, 2, 3});
    commit.set_size(length);
    return fs_.WriteBack({commit});
  }
  uint64_t Begin(ChunkId chunk) {
    proto::LogCommand command = fs_.Command(SessionId(0));
    proto::BeginReconfigurationCmd* op = command.mutable_begin_reconfiguration();
    op->set_chunk(chunk.value());
    op->set_epoch(command.new_epoch());
    op->set_reason("test");
    EXPECT_TRUE(fs_.Apply(command).ok());
    return command.new_epoch();
  }
  proto::ActivateConfigurationCmd Activation(ChunkId chunk, uint64_t epoch, proto::Stamp base,
                                             uint64_t length, bool sealed) {
    proto::ActivateConfigurationCmd op;
    op.set_chunk(chunk.value());
    op.set_epoch(epoch);
    for (const uint32_t server : {1, 2, 4}) op.add_members(server);
    op.set_write_quorum(2);
    *op.mutable_base() = base;
    op.set_length(length);
    for (const uint32_t server : {1, 4}) op.add_carriers(server);
    op.set_sealed(sealed);
    return op;
  }
  ApplyResult Activate(const proto::ActivateConfigurationCmd& op) {
    proto::LogCommand command = fs_.Command(SessionId(0));
    *command.mutable_activate_configuration() = op;
    return fs_.Apply(command);
  }

  FileSystem fs_;
  InodeId file_;
  uint64_t lease_ = 0;
  ChunkId chunk_;
};

TEST_F(ChunkTest, CreateGrantsTheLeaseAndTheFirstChunkInOneStep) {
  const proto::ChunkRecord record = Record(chunk_);
  EXPECT_EQ(record.state(), proto::CHUNK_OPEN);
  EXPECT_EQ(record.epoch(), lease_);
  EXPECT_THAT(record.members(), ElementsAre(1, 2, 3));
  EXPECT_EQ(record.write_quorum(), 2u);
  EXPECT_EQ(ReadQuorumOf(record), 2u);
  EXPECT_EQ(record.base().epoch(), 0u);
  EXPECT_THAT(OpenChunksOf(fs_.txn(), file_), ElementsAre(chunk_));
  EXPECT_THAT(OpenChunks(fs_.txn(), {}, 10), SizeIs(1));
  EXPECT_THAT(ChunksOfServer(fs_.txn(), ServerId(2), ChunkId(0), 10), ElementsAre(chunk_));
  const auto lease = WriteLeaseOf(fs_.txn(), file_);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->session, kSession);
  EXPECT_EQ(lease->lease.value(), lease_);
  EXPECT_THAT(WriteLeasesOfSession(fs_.txn(), kSession), SizeIs(1));
  EXPECT_EQ(CountersOf(fs_.txn()).chunks, 1u);
  const auto layout = Layout(fs_.txn(), LayoutOf(file_, 0, 4));
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->chunks_size(), 1);
  EXPECT_FALSE(layout->chunks(0).has_sealed()) << "readers have nothing exact to ask for";
}

TEST_F(ChunkTest, WithoutServersAFileIsMadeAndTheAnnounceFails) {
  fs_.servers = {1};
  proto::LogCommand command = fs_.Command(kSession);
  command.mutable_create()->set_parent(1);
  command.mutable_create()->set_name("g");
  command.mutable_create()->set_want_write(true);
  const ApplyResult made = fs_.Apply(command);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made.reply.entry().layout_size(), 0);
  const InodeId inode(made.reply.entry().attr().inode());
  const uint64_t lease = made.reply.leases(0).number();
  EXPECT_EQ(CodeOf(fs_.Announce(inode, lease, 0, 1)), StatusCode::kNoQuorum) << "one server for W = 2";
  fs_.servers = {1, 2};
  EXPECT_TRUE(fs_.Announce(inode, lease, 0, 1).ok()) << "W servers are enough to write";
  const auto at = ChunkAtIndex(fs_.txn(), inode, 0);
  ASSERT_TRUE(at);
  EXPECT_EQ(Record(*at).replicas(), 3u);
  EXPECT_EQ(ReadQuorumOf(Record(*at)), 1u);
}

TEST_F(ChunkTest, AnnounceAllocatesWhatIsMissingOnly) {
  EXPECT_THAT(MissingChunks(fs_.txn(), file_, 0, 3), ElementsAre(1u, 2u));
  const ApplyResult announced = fs_.Announce(file_, lease_, 0, 3);
  ASSERT_TRUE(announced.ok());
  EXPECT_EQ(announced.reply.layout().chunks_size(), 3);
  EXPECT_THAT(announced.effects.chunks_allocated, SizeIs(2));
  EXPECT_EQ(announced.reply.layout().chunks(0).chunk(), chunk_.value());
  EXPECT_THAT(fs_.Announce(file_, lease_, 1, 2).effects.chunks_allocated, IsEmpty()) << "a repeat";
  EXPECT_EQ(CodeOf(fs_.Announce(file_, lease_ + 999, 3, 1)), StatusCode::kLeaseLost);
  EXPECT_EQ(CodeOf(fs_.Announce(file_, lease_, kMaxFileBytes / kChunk, 2)), StatusCode::kFileTooLarge);
  EXPECT_EQ(CodeOf(fs_.Announce(file_, lease_, 0, kMaxAnnounce + 1)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CountersOf(fs_.txn()).chunks, 3u);
}

TEST_F(ChunkTest, SealRecordsStampCarriersSizeAndSpace) {
  proto::InodeCommit commit = CommitOf(proto::LEASE_READ);
  AddSeal(&commit, chunk_, MakeStamp(lease_, 7), 10'000, {1, 3});
  commit.set_size(10'000);
  commit.mutable_mtime()->set_seconds(123);
  proto::ChunkDurable* durable = commit.add_durable();
  durable->set_chunk(chunk_.value());
  *durable->mutable_stamp() = MakeStamp(lease_, 5);
  const ApplyResult done = fs_.WriteBack({commit});
  ASSERT_TRUE(done.ok()) << done.reply.ShortDebugString();
  const proto::ChunkRecord record = Record(chunk_);
  EXPECT_EQ(record.state(), proto::CHUNK_SEALED);
  EXPECT_EQ(record.sealed().seq(), 7u);
  EXPECT_THAT(record.carriers(), ElementsAre(1, 3));
  EXPECT_EQ(record.durable().seq(), 5u);
  const proto::Attr attr = fs_.Attr(file_);
  EXPECT_EQ(attr.size(), 10'000u);
  EXPECT_EQ(attr.mtime().seconds(), 123);
  EXPECT_EQ(attr.blocks_512(), 24u) << "three blocks of 4096";
  EXPECT_THAT(done.effects.chunks_sealed, ElementsAre(chunk_));
  EXPECT_THAT(done.effects.leases_ended, SizeIs(1));
  EXPECT_FALSE(WriteLeaseOf(fs_.txn(), file_));
  EXPECT_THAT(OpenChunks(fs_.txn(), {}, 10), IsEmpty());
  EXPECT_EQ(Layout(fs_.txn(), LayoutOf(file_, 0, 1))->chunks(0).sealed().seq(), 7u);
}

TEST_F(ChunkTest, SealsThatDoNotFitAreRefused) {
  const auto seal = [&](proto::Stamp stamp, uint64_t length, std::vector<uint32_t> carriers) {
    proto::InodeCommit commit = CommitOf();
    AddSeal(&commit, chunk_, stamp, length, std::move(carriers));
    return CodeOf(fs_.WriteBack({commit}));
  };
  const std::string before = ChunkRecordOf(fs_.txn(), chunk_)->SerializeAsString();
  EXPECT_EQ(seal(MakeStamp(lease_, 1), 1, {1}), StatusCode::kNoQuorum);
  EXPECT_EQ(seal(MakeStamp(lease_, 1), 1, {1, 1}), StatusCode::kNoQuorum) << "the same one twice";
  EXPECT_EQ(seal(MakeStamp(lease_, 1), 1, {1, 9}), StatusCode::kFailedPrecondition) << "not a member";
  EXPECT_EQ(seal(MakeStamp(lease_ - 1, 1), 1, {1, 2}), StatusCode::kFenced);
  EXPECT_EQ(seal(MakeStamp(lease_, 1), kChunk + 1, {1, 2}), StatusCode::kFailedPrecondition);
  EXPECT_EQ(ChunkRecordOf(fs_.txn(), chunk_)->SerializeAsString(), before);
  EXPECT_EQ(seal(MakeStamp(lease_, 1), 1, {1, 2}), StatusCode::kOk);
  EXPECT_EQ(seal(MakeStamp(lease_, 1), 1, {1, 2}), StatusCode::kOk) << "a repeat";
  EXPECT_EQ(seal(MakeStamp(lease_, 2), 1, {1, 2}), StatusCode::kFailedPrecondition) << "not open any more";
}

TEST_F(ChunkTest, OneRefusedItemDoesNotHoldUpTheOthers) {
  proto::InodeCommit bad = CommitOf();
  bad.set_lease(1);
  proto::InodeCommit good = CommitOf();
  good.set_size(77);
  proto::InodeCommit half = CommitOf();
  half.set_size(99);
  AddSeal(&half, chunk_, MakeStamp(lease_, 1), 1, {1});
  const ApplyResult done = fs_.WriteBack({bad, good, half});
  EXPECT_EQ(CodeOf(done), StatusCode::kLeaseLost);
  ASSERT_EQ(done.reply.write_back().failures_size(), 2);
  EXPECT_EQ(done.reply.write_back().failures(1).status().code(),
            static_cast<uint32_t>(StatusCode::kNoQuorum));
  EXPECT_EQ(fs_.Attr(file_).size(), 77u) << "the refused item left nothing";
  EXPECT_THAT(done.effects.inodes, ElementsAre(file_));
}

TEST_F(ChunkTest, RecordedSizeOnlyGrowsByWriteBack) {
  proto::InodeCommit commit = CommitOf();
  commit.set_size(100);
  ASSERT_TRUE(fs_.WriteBack({commit}).ok());
  commit.set_size(50);
  ASSERT_TRUE(fs_.WriteBack({commit}).ok());
  EXPECT_EQ(fs_.Attr(file_).size(), 100u);
  EXPECT_EQ(CodeOf(fs_.WriteBack({commit}, kOther)), StatusCode::kLeaseLost) << "another session's lease";
}

TEST_F(ChunkTest, ReopeningUnderTheSameLeaseTakesAFreshEpoch) {
  ASSERT_TRUE(SealAt(3, 10).ok());
  const ApplyResult reopened = fs_.Announce(file_, lease_, 0, 1);
  ASSERT_TRUE(reopened.ok());
  const proto::ChunkLayout layout = reopened.reply.layout().chunks(0);
  EXPECT_GT(layout.epoch(), lease_) << "replicas refuse the sealed epoch";
  EXPECT_EQ(layout.base().epoch(), lease_);
  EXPECT_EQ(layout.base().seq(), 3u);
  EXPECT_THAT(reopened.effects.chunks_opened, ElementsAre(chunk_));
  ASSERT_TRUE(SealAt(4, 20).ok());
  EXPECT_EQ(Record(chunk_).sealed().epoch(), layout.epoch());
}

TEST_F(ChunkTest, AChunkThatWasNeverBegunLeavesNothing) {
  proto::InodeCommit commit = CommitOf(proto::LEASE_NONE);
  proto::ChunkSeal* seal = commit.add_seals();
  seal->set_chunk(chunk_.value());
  seal->set_never_begun(true);
  const ApplyResult done = fs_.WriteBack({commit});
  ASSERT_TRUE(done.ok());
  EXPECT_THAT(done.effects.chunks_dropped, ElementsAre(chunk_));
  EXPECT_FALSE(ChunkRecordOf(fs_.txn(), chunk_));
  EXPECT_THAT(ChunksOfServer(fs_.txn(), ServerId(1), ChunkId(0), 10), IsEmpty());
  EXPECT_EQ(CountersOf(fs_.txn()).chunks, 0u);
}

TEST_F(ChunkTest, AnOldChunkThatWasReopenedButNotBegunIsAsItWas) {
  ASSERT_TRUE(SealAt(3, 10).ok());
  ASSERT_TRUE(fs_.Announce(file_, lease_, 0, 1).ok());
  proto::InodeCommit commit = CommitOf(proto::LEASE_NONE);
  proto::ChunkSeal* seal = commit.add_seals();
  seal->set_chunk(chunk_.value());
  seal->set_never_begun(true);
  ASSERT_TRUE(fs_.WriteBack({commit}).ok());
  EXPECT_EQ(Record(chunk_).state(), proto::CHUNK_SEALED);
  EXPECT_EQ(Record(chunk_).sealed().seq(), 3u);
  EXPECT_FALSE(WriteLeaseOf(fs_.txn(), file_));
}

TEST_F(ChunkTest, AChunkThatWasReconfiguredUnderItsWriterIsNotNeverBegun) {
  ASSERT_TRUE(Activate(Activation(chunk_, Begin(chunk_), MakeStamp(lease_, 9), 5000, false)).ok());
  proto::InodeCommit commit = CommitOf(proto::LEASE_NONE);
  proto::ChunkSeal* seal = commit.add_seals();
  seal->set_chunk(chunk_.value());
  seal->set_never_begun(true);
  EXPECT_FALSE(fs_.WriteBack({commit}).ok()) << "nine mutations would be gone";
  EXPECT_EQ(Record(chunk_).base().seq(), 9u);
}

TEST_F(ChunkTest, GrantWaitsForTheHolder) {
  EXPECT_EQ(CodeOf(fs_.Grant(file_, kOther)), StatusCode::kBusy);
  const ApplyResult again = fs_.Grant(file_, kSession, 0, 2);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again.reply.leases(0).number(), lease_) << "the holder keeps its lease";
  EXPECT_EQ(again.reply.layout().chunks_size(), 2);
  EXPECT_EQ(CodeOf(fs_.Grant(file_, SessionId(999))), StatusCode::kSessionUnknown);
  EXPECT_EQ(CodeOf(fs_.Grant(kRootInode, kOther)), StatusCode::kInvalidArgument);
}

TEST_F(ChunkTest, AVanishedWritersChunksAreRecoveredThenItsLeaseEnds) {
  ASSERT_TRUE(fs_.Announce(file_, lease_, 1, 1).ok());
  const ChunkId second = *ChunkAtIndex(fs_.txn(), file_, 1);
  const ApplyResult closed = fs_.CloseSession(kSession);
  EXPECT_THAT(closed.effects.chunks_to_recover, UnorderedElementsAre(chunk_, second));
  EXPECT_THAT(closed.effects.leases_ended, IsEmpty());
  EXPECT_TRUE(WriteLeaseOf(fs_.txn(), file_)->vanished);
  EXPECT_EQ(CodeOf(fs_.Grant(file_, kOther)), StatusCode::kBusy) << "until its chunks are resolved";

  const uint64_t epoch = Begin(chunk_);
  EXPECT_THAT(ReconfiguringChunks(fs_.txn(), ChunkId(0), 10), ElementsAre(chunk_));
  EXPECT_EQ(ChunkStateName(Record(chunk_)), "recovering");
  proto::ActivateConfigurationCmd op = Activation(chunk_, epoch, MakeStamp(lease_, 9), 5000, true);
  op.set_vanished_writer(true);
  const ApplyResult recovered = Activate(op);
  ASSERT_TRUE(recovered.ok()) << recovered.reply.ShortDebugString();
  EXPECT_EQ(Record(chunk_).sealed().epoch(), epoch);
  EXPECT_EQ(Record(chunk_).sealed().seq(), 9u);
  EXPECT_EQ(fs_.Attr(file_).size(), 5000u) << "what the writer buffered of the size is found in the chunk";
  EXPECT_THAT(recovered.effects.leases_ended, IsEmpty());
  EXPECT_THAT(ChunksOfServer(fs_.txn(), ServerId(4), ChunkId(0), 10), ElementsAre(chunk_));
  EXPECT_THAT(ChunksOfServer(fs_.txn(), ServerId(3), ChunkId(0), 10), ElementsAre(second));

  proto::ActivateConfigurationCmd never;
  never.set_chunk(second.value());
  never.set_epoch(Begin(second));
  never.set_never_begun(true);
  never.set_sealed(true);
  never.set_vanished_writer(true);
  const ApplyResult dropped = Activate(never);
  EXPECT_THAT(dropped.effects.chunks_dropped, ElementsAre(second));
  EXPECT_THAT(dropped.effects.leases_ended, SizeIs(1));
  EXPECT_TRUE(fs_.Grant(file_, kOther).ok());
}

TEST_F(ChunkTest, ALeaseGivenBackWithOpenChunksWaitsForRecovery) {
  const ApplyResult returned = fs_.WriteBack({CommitOf(proto::LEASE_NONE)});
  ASSERT_TRUE(returned.ok());
  EXPECT_THAT(returned.effects.chunks_to_recover, ElementsAre(chunk_));
  EXPECT_THAT(returned.effects.leases_ended, IsEmpty());
  EXPECT_EQ(CodeOf(fs_.WriteBack({CommitOf()})), StatusCode::kLeaseLost);
}

TEST_F(ChunkTest, ActivationKeepsThePromises) {
  ASSERT_TRUE(SealAt(5, 100).ok());
  proto::InodeCommit commit = CommitOf(proto::LEASE_NONE);
  proto::ChunkDurable* durable = commit.add_durable();
  durable->set_chunk(chunk_.value());
  *durable->mutable_stamp() = MakeStamp(lease_, 4);
  ASSERT_TRUE(fs_.WriteBack({commit}).ok());
  const uint64_t epoch = Begin(chunk_);
  const auto activation = [&](uint64_t seq) {
    return Activation(chunk_, epoch, MakeStamp(lease_, seq), 100, true);
  };
  proto::ActivateConfigurationCmd op = activation(5);
  op.set_epoch(epoch + 1000);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kFenced) << "not the epoch that was fenced";
  op = activation(5);
  op.clear_carriers();
  op.add_carriers(1);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kNoQuorum);
  op = activation(5);
  op.set_write_quorum(4);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kFailedPrecondition);
  op = activation(5);
  op.set_members(1, 1);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kFailedPrecondition) << "a member twice";
  op = activation(5);
  op.set_carriers(0, 9);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kFailedPrecondition);
  op = activation(5);
  op.set_sealed(false);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kFailedPrecondition) << "nobody writes";
  EXPECT_EQ(CodeOf(Activate(activation(4))), StatusCode::kDamaged) << "below the seal";
  op = activation(3);
  op.set_below_seal(true);
  EXPECT_EQ(CodeOf(Activate(op)), StatusCode::kDamaged) << "below what is durable, never";
  op = activation(4);
  op.set_below_seal(true);
  EXPECT_TRUE(Activate(op).ok());
  EXPECT_EQ(Record(chunk_).sealed().epoch(), epoch);
  EXPECT_TRUE(Activate(op).ok()) << "a repeat";
  proto::LogCommand late = fs_.Command(SessionId(0));
  late.mutable_begin_reconfiguration()->set_chunk(chunk_.value());
  late.mutable_begin_reconfiguration()->set_epoch(epoch);
  EXPECT_EQ(CodeOf(fs_.Apply(late)), StatusCode::kFenced);
}

TEST_F(ChunkTest, AcceptedLossAllowsWhatIsLeft) {
  ASSERT_TRUE(SealAt(5, 100, proto::LEASE_NONE).ok());
  proto::LogCommand damage = fs_.Command(SessionId(0));
  damage.mutable_mark_damaged()->set_chunk(chunk_.value());
  damage.mutable_mark_damaged()->set_detail("cs1 and cs2 are gone");
  EXPECT_THAT(fs_.Apply(damage).effects.chunks_damaged, ElementsAre(chunk_));
  EXPECT_THAT(DamagedChunks(fs_.txn(), ChunkId(0), 10), ElementsAre(chunk_));
  EXPECT_TRUE(Layout(fs_.txn(), LayoutOf(file_, 0, 1))->chunks(0).damaged());
  EXPECT_EQ(CodeOf(fs_.Grant(file_, kSession, 0, 1)), StatusCode::kDamaged);
  EXPECT_FALSE(WriteLeaseOf(fs_.txn(), file_)) << "the refused grant left no lease";
  proto::LogCommand accept = fs_.Command(SessionId(0));
  accept.mutable_accept_loss()->set_chunk(chunk_.value());
  EXPECT_EQ(CodeOf(fs_.Apply(accept)), StatusCode::kInvalidArgument) << "a reason is needed";
  accept.mutable_accept_loss()->set_reason("disks shredded");
  accept.mutable_accept_loss()->set_operator_("admin");
  ASSERT_TRUE(fs_.Apply(accept).ok());
  EXPECT_EQ(Record(chunk_).loss().reason(), "disks shredded");
  ASSERT_TRUE(Activate(Activation(chunk_, Begin(chunk_), MakeStamp(lease_, 2), 50, true)).ok());
  EXPECT_THAT(DamagedChunks(fs_.txn(), ChunkId(0), 10), IsEmpty());
  EXPECT_FALSE(Record(chunk_).has_loss()) << "accepted once";
  EXPECT_EQ(fs_.Attr(file_).blocks_512(), 8u);
}

TEST_F(ChunkTest, AWriterGoesOnInTheNewConfiguration) {
  const uint64_t epoch = Begin(chunk_);
  EXPECT_EQ(CodeOf(fs_.Announce(file_, lease_, 0, 1)), StatusCode::kBusy) << "while it is being configured";
  const ApplyResult activated = Activate(Activation(chunk_, epoch, MakeStamp(lease_, 3), 30, false));
  ASSERT_TRUE(activated.ok());
  EXPECT_EQ(Record(chunk_).state(), proto::CHUNK_OPEN);
  proto::InodeCommit commit = CommitOf();
  AddSeal(&commit, chunk_, MakeStamp(lease_, 9), 1, {1, 2});
  EXPECT_EQ(CodeOf(fs_.WriteBack({commit})), StatusCode::kFenced) << "a seal of the old epoch";
  commit.mutable_seals(0)->mutable_stamp()->set_epoch(epoch);
  EXPECT_TRUE(fs_.WriteBack({commit}).ok());
}

TEST_F(ChunkTest, ReportedCarriersReplaceThoseRecorded) {
  ASSERT_TRUE(SealAt(5, 100, proto::LEASE_NONE).ok());
  proto::LogCommand report = fs_.Command(SessionId(0));
  proto::ReportCarriersCmd* op = report.mutable_report_carriers();
  op->set_chunk(chunk_.value());
  *op->mutable_stamp() = MakeStamp(lease_, 5);
  op->add_carriers(2);
  EXPECT_TRUE(fs_.Apply(report).ok());
  EXPECT_THAT(Record(chunk_).carriers(), ElementsAre(2));
  op->add_carriers(9);
  EXPECT_EQ(CodeOf(fs_.Apply(report)), StatusCode::kFailedPrecondition);
  op->set_carriers(1, 3);
  op->mutable_stamp()->set_seq(4);
  EXPECT_EQ(CodeOf(fs_.Apply(report)), StatusCode::kFailedPrecondition) << "another stamp";
  proto::LogCommand damage = fs_.Command(SessionId(0));
  damage.mutable_mark_damaged()->set_chunk(chunk_.value());
  ASSERT_TRUE(fs_.Apply(damage).ok());
  op->mutable_stamp()->set_seq(5);
  EXPECT_THAT(fs_.Apply(report).effects.chunks_sealed, ElementsAre(chunk_)) << "its members are back";
}

TEST_F(ChunkTest, ShrinkingDetachesChunksAndMarksTheOneThatIsCut) {
  ASSERT_TRUE(fs_.Announce(file_, lease_, 0, 3).ok());
  proto::InodeCommit commit = CommitOf();
  std::vector<ChunkId> chunks;
  for (const ChunkAt& at : ChunksOfInode(fs_.txn(), file_, 0, 10)) {
    chunks.push_back(at.chunk);
    AddSeal(&commit, at.chunk, MakeStamp(lease_, 2), kChunk, {1, 2, 3});
  }
  commit.set_size(3 * kChunk);
  ASSERT_TRUE(fs_.WriteBack({commit}).ok());
  EXPECT_EQ(fs_.Attr(file_).blocks_512(), 3 * kChunk / 512);
  const ApplyResult cut = fs_.Truncate(file_, kChunk + 100);
  ASSERT_TRUE(cut.ok());
  EXPECT_THAT(cut.effects.chunks_deleting, ElementsAre(chunks[2]));
  EXPECT_THAT(DeletingChunks(fs_.txn(), ChunkId(0), 10), ElementsAre(chunks[2]));
  EXPECT_THAT(ChunksOfInode(fs_.txn(), file_, 0, 10), SizeIs(2));
  EXPECT_TRUE(Record(chunks[1]).shrink_pending());
  EXPECT_EQ(Record(chunks[1]).shrink_length(), 100u);
  EXPECT_FALSE(Record(chunks[0]).shrink_pending());
  EXPECT_EQ(fs_.Attr(file_).blocks_512(), 2 * kChunk / 512);
  EXPECT_EQ(CountersOf(fs_.txn()).chunks, 2u);
  EXPECT_EQ(CountersOf(fs_.txn()).deleting, 1u);
  EXPECT_FALSE(Record(chunks[2]).deleted_by_quorum());
  EXPECT_GT(Record(chunks[2]).epoch(), lease_) << "erased under an epoch above the writer's";

  ASSERT_TRUE(fs_.Announce(file_, lease_, 1, 1).ok());
  proto::InodeCommit after = CommitOf();
  AddSeal(&after, chunks[1], MakeStamp(Record(chunks[1]).epoch(), 3), 100, {1, 2});
  ASSERT_TRUE(fs_.WriteBack({after}).ok());
  EXPECT_FALSE(Record(chunks[1]).shrink_pending());

  for (const uint32_t server : {1, 2, 3}) {
    EXPECT_TRUE(ChunkRecordOf(fs_.txn(), chunks[2]));
    proto::LogCommand erased = fs_.Command(SessionId(0));
    erased.mutable_chunk_erased()->set_chunk(chunks[2].value());
    erased.mutable_chunk_erased()->set_server(server);
    EXPECT_TRUE(fs_.Apply(erased).ok());
    EXPECT_TRUE(fs_.Apply(erased).ok()) << "a repeat";
  }
  EXPECT_FALSE(ChunkRecordOf(fs_.txn(), chunks[2]));
  EXPECT_EQ(CountersOf(fs_.txn()).deleting, 0u);
}

TEST_F(ChunkTest, RecoveryDoesNotUndoATruncation) {
  for (const bool told : {false, true}) {
    for (const bool applied : {false, true}) {
      FileSystem fs;
      const ApplyResult made = fs.Create(kRootInode, "f", 0644, true, true);
      const InodeId inode = FileSystem::InodeOf(made);
      const ChunkId chunk(made.reply.entry().layout(0).chunk());
      proto::InodeCommit commit;
      commit.set_inode(inode.value());
      commit.set_lease(made.reply.leases(0).number());
      commit.set_size(5000);
      commit.set_keep(proto::LEASE_WRITE);
      ASSERT_TRUE(fs.WriteBack({commit}).ok());
      ASSERT_TRUE(fs.Truncate(inode, 100, told ? 8 : 0).ok());
      ASSERT_TRUE(fs.CloseSession(kSession).ok());
      proto::LogCommand begin = fs.Command(SessionId(0));
      begin.mutable_begin_reconfiguration()->set_chunk(chunk.value());
      begin.mutable_begin_reconfiguration()->set_epoch(begin.new_epoch());
      ASSERT_TRUE(fs.Apply(begin).ok());
      proto::LogCommand activate = fs.Command(SessionId(0));
      auto* op = activate.mutable_activate_configuration();
      *op = Activation(chunk, begin.new_epoch(), MakeStamp(made.reply.leases(0).number(), applied ? 9 : 7),
                       5000, true);
      op->set_vanished_writer(true);
      ASSERT_TRUE(fs.Apply(activate).ok());
      // With its number known, a truncation that was applied (and written beyond) is told from one that got
      // lost.
      EXPECT_EQ(fs.Attr(inode).size(), told && applied ? 5000u : 100u) << told << applied;
    }
  }
}

TEST_F(ChunkTest, ChunksOfAFileThatEndsGoToTheDeletingQueue) {
  ASSERT_TRUE(SealAt(1, 10, proto::LEASE_NONE).ok());
  const ApplyResult gone = fs_.Unlink(kRootInode, "f");
  EXPECT_THAT(gone.effects.chunks_deleting, ElementsAre(chunk_));
  EXPECT_EQ(Record(chunk_).state(), proto::CHUNK_DELETING);
  EXPECT_TRUE(Record(chunk_).deleted_by_quorum());
  EXPECT_EQ(ChunkStateName(Record(chunk_)), "deleting");
  proto::LogCommand begin = fs_.Command(SessionId(0));
  begin.mutable_begin_reconfiguration()->set_chunk(chunk_.value());
  begin.mutable_begin_reconfiguration()->set_epoch(begin.new_epoch());
  EXPECT_EQ(CodeOf(fs_.Apply(begin)), StatusCode::kDeleted);
}

TEST_F(ChunkTest, UnlinkingEndsTheLeaseOfItsSession) {
  const ApplyResult gone = fs_.Unlink(kRootInode, "f");
  EXPECT_THAT(gone.effects.leases_ended, SizeIs(1));
  EXPECT_THAT(OpenChunks(fs_.txn(), {}, 10), IsEmpty());
  EXPECT_THAT(WriteLeasesOfSession(fs_.txn(), kSession), IsEmpty());
}

TEST_F(ChunkTest, AnOrphanIsWrittenOnUntilItIsReclaimed) {
  ASSERT_TRUE(fs_.Unlink(kRootInode, "f", /*open_here=*/true).reply.remove().orphaned());
  ASSERT_TRUE(SealAt(2, 10).ok());
  EXPECT_EQ(fs_.Attr(file_).size(), 10u);
  const ApplyResult closed = fs_.CloseSession(kSession);
  EXPECT_THAT(closed.effects.orphans_released, ElementsAre(file_));
  proto::LogCommand reclaim = fs_.Command(SessionId(0));
  reclaim.mutable_reclaim_inode()->set_inode(file_.value());
  EXPECT_THAT(fs_.Apply(reclaim).effects.chunks_deleting, ElementsAre(chunk_));
}

// Found with real processes: the chunk stayed, was handed out again under the same lease, and what was
// written to it then was taken for a repeat of what had been written before.
TEST_F(ChunkTest, ATruncationDropsChunksThatTheRecordedSizeDoesNotKnowOf) {
  ASSERT_EQ(fs_.Attr(file_).size(), 0u) << "the growth under the lease is not recorded yet";
  const ApplyResult cut = fs_.Truncate(file_, 0);
  ASSERT_TRUE(cut.ok()) << cut.reply.ShortDebugString();
  EXPECT_FALSE(ChunkAtIndex(fs_.txn(), file_, 0).has_value());
  const ApplyResult again = fs_.Announce(file_, lease_, 0, 1);
  ASSERT_TRUE(again.ok()) << again.reply.ShortDebugString();
  ASSERT_TRUE(ChunkAtIndex(fs_.txn(), file_, 0).has_value());
  EXPECT_NE(*ChunkAtIndex(fs_.txn(), file_, 0), chunk_);
}

}  // namespace
}  // namespace cairn::master

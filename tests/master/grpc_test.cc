// A whole master over real gRPC streams.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "master/service/master_server.h"
#include "tests/master/grpc_peers.h"

namespace cairn::master {
namespace {

StatusCode CodeOf(const proto::Reply& reply) { return static_cast<StatusCode>(reply.status().code()); }

class GrpcTest : public ::testing::Test {
 protected:
  void StartMaster(int64_t session_lease_ms = 60'000) {
    MasterServerOptions options;
    options.listen = "127.0.0.1:0";
    options.core.min_free_bytes = 0;
    options.core.session_lease_ms = session_lease_ms;
    options.core.server_silence_ms = 600'000;  // the fakes send no heartbeats
    auto master = MasterServer::Start(options, NewMemoryStore(Uuid{9, 9}));
    ASSERT_TRUE(master.ok()) << master.status().ToString();
    master_ = *std::move(master);
  }
  void StartServers(uint32_t count) {
    for (uint32_t i = 1; i <= count; ++i)
      servers_.push_back(std::make_unique<ChunkserverPeer>(master_->port(), i));
  }
  void TearDown() override {
    servers_.clear();
    if (master_ != nullptr) master_->Stop();
  }
  // Plays the writer on all members; returns the commit.
  proto::InodeCommit WriteAndSeal(const proto::Reply& created, uint64_t length, proto::LeaseMode keep) {
    const proto::ChunkLayout& layout = created.entry().layout(0);
    const ChunkId chunk(layout.chunk());
    const Stamp stamp{Epoch(layout.epoch()), 1};
    proto::InodeCommit commit;
    commit.set_inode(created.entry().attr().inode());
    commit.set_lease(created.leases(0).number());
    commit.set_size(length);
    commit.set_keep(keep);
    proto::ChunkSeal* seal = commit.add_seals();
    seal->set_chunk(layout.chunk());
    seal->set_length(length);
    seal->mutable_stamp()->set_epoch(layout.epoch());
    seal->mutable_stamp()->set_seq(1);
    for (auto& server : servers_) {
      const Status status = server->WithReplicas([&](FakeReplicas& replicas) {
        Status written = replicas.Mutate(chunk, stamp.epoch, 1, Stamp{}, length);
        return written.ok() ? replicas.Seal(chunk, stamp) : written;
      });
      EXPECT_TRUE(status.ok()) << status.ToString();
      seal->add_carriers(server->id());
    }
    return commit;
  }

  std::unique_ptr<MasterServer> master_;
  std::vector<std::unique_ptr<ChunkserverPeer>> servers_;
};

TEST_F(GrpcTest, AFileTravelsFromWriterToReaderThroughARecall) {
  StartMaster();
  StartServers(3);
  SessionPeer writer(master_->port());
  SessionPeer reader(master_->port());
  ASSERT_NE(writer.Hello().session(), 0u);
  ASSERT_NE(reader.Hello().session(), 0u);
  const proto::Reply created = writer.Create("f");
  ASSERT_EQ(CodeOf(created), StatusCode::kOk) << created.status().message();

  proto::Request stat;
  stat.mutable_get_attr()->set_inode(created.entry().attr().inode());
  const uint64_t asked = reader.Send(stat);
  const proto::RecallItem recall = writer.WaitForRecall();
  EXPECT_EQ(recall.number(), created.leases(0).number());
  proto::ClientMessage answer;
  answer.mutable_recall_reply()->set_inode(recall.inode());
  answer.mutable_recall_reply()->set_number(recall.number());
  answer.mutable_recall_reply()->set_done(true);
  *answer.mutable_recall_reply()->mutable_commit() = WriteAndSeal(created, 321, proto::LEASE_READ);
  writer.Write(answer);
  EXPECT_EQ(reader.Wait(asked).entry().attr().size(), 321u);

  proto::Request unlink;
  unlink.mutable_unlink()->set_parent(1);
  unlink.mutable_unlink()->set_name("f");
  const uint64_t removal = writer.Send(unlink);
  EXPECT_EQ(CodeOf(writer.Wait(removal)), StatusCode::kOk);
  int tombstones = 0;
  for (auto& server : servers_) {
    tombstones += server->WithReplicas([&](FakeReplicas& replicas) {
      const auto* replica = replicas.Find(ChunkId(created.entry().layout(0).chunk()));
      return replica != nullptr && replica->state.tombstone ? 1 : 0;
    });
  }
  EXPECT_GE(tombstones, 2);
}

TEST_F(GrpcTest, ARepeatOverANewStreamIsAnsweredFromTheFirstTime) {
  StartMaster();
  proto::Request mkdir;
  mkdir.set_number(7);
  mkdir.mutable_mkdir()->set_parent(1);
  mkdir.mutable_mkdir()->set_name("d");
  mkdir.mutable_mkdir()->set_mode(0755);
  auto first = std::make_unique<SessionPeer>(master_->port());
  const uint64_t session = first->Hello().session();
  first->Send(mkdir);
  const proto::Reply reply = first->Wait(7);
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk);
  first->Break();
  SessionPeer second(master_->port());
  EXPECT_EQ(second.Hello(session).last_request(), 7u);
  second.Send(mkdir);
  const proto::Reply again = second.Wait(7);
  EXPECT_EQ(CodeOf(again), StatusCode::kOk);
  EXPECT_EQ(again.entry().attr().inode(), reply.entry().attr().inode());
}

TEST_F(GrpcTest, ASilentWriterIsRecoveredAndItsFileServed) {
  StartMaster(/*session_lease_ms=*/1'000);
  StartServers(3);
  auto writer = std::make_unique<SessionPeer>(master_->port());
  writer->Hello();
  const proto::Reply created = writer->Create("f");
  ASSERT_EQ(CodeOf(created), StatusCode::kOk) << created.status().message();
  const proto::ChunkLayout& layout = created.entry().layout(0);
  for (auto& server : servers_) {
    server->WithReplicas([&](FakeReplicas& replicas) {
      EXPECT_TRUE(replicas.Mutate(ChunkId(layout.chunk()), Epoch(layout.epoch()), 1, Stamp{}, 99).ok());
    });
  }
  writer->Break();
  // Its own session must outlive the other's: it renews until the answer came.
  SessionPeer reader(master_->port());
  reader.Hello();
  std::atomic<bool> done{false};
  std::thread renewals([&] {
    while (!done) {
      proto::ClientMessage renew;
      renew.mutable_renew()->set_number(1);
      reader.Write(renew);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  proto::Request lease;
  lease.mutable_lease()->set_inode(created.entry().attr().inode());
  lease.mutable_lease()->set_mode(proto::LEASE_READ);
  lease.mutable_lease()->set_count(1);
  const proto::Reply reply = reader.Call(lease);
  done = true;
  renewals.join();
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk) << reply.status().message();
  EXPECT_EQ(reply.layout().attr().size(), 99u);
  ASSERT_EQ(reply.layout().chunks_size(), 1);
  EXPECT_GT(reply.layout().chunks(0).sealed().epoch(), layout.epoch());
}

TEST_F(GrpcTest, AnotherClustersClientIsTurnedAway) {
  StartMaster();
  SessionPeer client(master_->port());
  client.Hello(0, std::string(32, 'b'));
  EXPECT_EQ(client.WaitForEnd().code(), StatusCode::kWrongCluster);
}

TEST_F(GrpcTest, GarbageOnThePortDoesNoHarm) {
  StartMaster();
  for (int round = 0; round < 20; ++round) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(fd, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(master_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    std::string garbage;
    uint64_t random = static_cast<uint64_t>(round) + 1;
    for (int i = 0; i < 4096; ++i) {
      random = random * 6364136223846793005ull + 1442695040888963407ull;
      garbage.push_back(static_cast<char>(random >> 56));
    }
    if (round % 2 == 0) garbage = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + garbage;
    send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
    close(fd);
  }
  SessionPeer client(master_->port());
  EXPECT_NE(client.Hello().session(), 0u);
}

TEST_F(GrpcTest, ABusyPortIsAnError) {
  StartMaster();
  MasterServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(master_->port());
  auto second = MasterServer::Start(options, NewMemoryStore(Uuid{8, 8}));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::kBusy);
}

TEST_F(GrpcTest, AdministratorsAreAnswered) {
  StartMaster();
  StartServers(2);
  auto stub = proto::AdminService::NewStub(Connect(master_->port()));
  {
    grpc::ClientContext context;
    proto::StatusResponse response;
    ASSERT_TRUE(stub->Status(&context, {}, &response).ok());
    EXPECT_EQ(response.cluster_id(), master_->cluster_id());
    EXPECT_EQ(response.servers_size(), 2);
    EXPECT_EQ(response.health(), "degraded") << "the policy asks for three";
  }
  {
    grpc::ClientContext context;
    proto::FsckResponse response;
    proto::FsckRequest request;
    ASSERT_TRUE(stub->Fsck(&context, request, &response).ok());
    EXPECT_EQ(response.status().code(), 0u) << response.status().message();
    EXPECT_EQ(response.problems_size(), 0);
  }
  {
    grpc::ClientContext context;
    proto::FsckResponse response;
    proto::FsckRequest request;
    request.set_cursor("nonsense-from-elsewhere");
    ASSERT_TRUE(stub->Fsck(&context, request, &response).ok());
    EXPECT_EQ(response.status().code(), static_cast<uint32_t>(StatusCode::kInvalidArgument));
  }
  {
    grpc::ClientContext context;
    proto::ExplainChunkResponse response;
    proto::ExplainChunkRequest request;
    request.set_chunk(12345);
    ASSERT_TRUE(stub->ExplainChunk(&context, request, &response).ok());
    EXPECT_EQ(response.status().code(), static_cast<uint32_t>(StatusCode::kNotFound));
  }
  {
    grpc::ClientContext context;
    proto::AcceptLossResponse response;
    proto::AcceptLossRequest request;
    request.set_chunk(12345);
    ASSERT_TRUE(stub->AcceptLoss(&context, request, &response).ok());
    EXPECT_EQ(response.status().code(), static_cast<uint32_t>(StatusCode::kNotFound));
  }
}

TEST_F(GrpcTest, StoppingWithOpenStreamsReturns) {
  StartMaster();
  SessionPeer client(master_->port());
  client.Hello();
  master_->Stop();
  EXPECT_FALSE(client.WaitForEnd().ok());
}

}  // namespace
}  // namespace cairn::master

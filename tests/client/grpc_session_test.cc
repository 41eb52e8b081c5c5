// The gRPC adapter against a real gRPC server in this process.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "client/session/session.h"
#include "proto/cairn/session.grpc.pb.h"

namespace cairn::client {
namespace {

// Answers hello, renewals, and every request with a log index equal to its number.
class EchoMaster final : public proto::SessionService::Service {
 public:
  grpc::Status Session(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<proto::MasterMessage, proto::ClientMessage>* stream) override {
    proto::ClientMessage in;
    while (stream->Read(&in)) {
      proto::MasterMessage out;
      if (in.has_hello()) {
        if (!in.hello().cluster_id().empty() && in.hello().cluster_id() != cluster_id) {
          return {grpc::StatusCode::UNAUTHENTICATED, "another cluster"};
        }
        if (refuse_version) return {grpc::StatusCode::FAILED_PRECONDITION, "wire version 1 is not supported"};
        out.mutable_hello_reply()->set_session(7);
        out.mutable_hello_reply()->set_cluster_id(cluster_id);
        out.mutable_hello_reply()->set_lease_ms(10'000);
        out.mutable_hello_reply()->set_incarnation(1);
        ++hellos;
      } else if (in.has_request()) {
        out.mutable_reply()->set_number(in.request().number());
        out.mutable_reply()->set_log_index(in.request().number());
      } else if (in.has_renew()) {
        out.mutable_renew_reply()->set_number(in.renew().number());
      } else {
        break;  // goodbye
      }
      stream->Write(out);
    }
    return grpc::Status::OK;
  }

  std::string cluster_id = "0123456789abcdef0123456789abcdef";
  bool refuse_version = false;
  std::atomic<int> hellos{0};
};

struct QuietObserver final : SessionObserver {
  ResumeClaims Claims() override { return {}; }
  void OnReply(const proto::Request&, const proto::Reply&) override {}
  void OnRecall(const proto::Recall&) override {}
  void OnReconfigured(const proto::Reconfigured&) override {}
  void OnServers(const google::protobuf::RepeatedPtrField<proto::ServerAddress>&) override {}
  void OnResumed(const proto::HelloReply&, bool, bool) override {}
  void OnSessionLost() override {}
};

class GrpcSession : public ::testing::Test {
 protected:
  std::string StartServer() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    return "127.0.0.1:" + std::to_string(port);
  }
  void TearDown() override {
    if (server) server->Shutdown(std::chrono::system_clock::now());
  }

  EchoMaster service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<MasterConnector> connector = MakeGrpcConnector();
  QuietObserver observer;
};

TEST_F(GrpcSession, TheFirstAddressThatAnswersIsUsedAndABrokenStreamIsResumed) {
  const std::string address = StartServer();
  Session session({.masters = {"127.0.0.1:1", address}, .name = "test"}, connector.get(), &observer,
                  SystemClock::Get());
  ASSERT_TRUE(session.Start().ok());
  proto::Request request;
  request.mutable_sync();
  ASSERT_TRUE(session.Call(request).ok());
  session.BreakStream();
  auto reply = session.Call(request);
  ASSERT_TRUE(reply.ok()) << reply.status().ToString();
  EXPECT_EQ(reply->log_index(), 2u);
  EXPECT_EQ(service.hellos, 2);
  EXPECT_TRUE(session.LeasesValid());
  session.Stop(true);
}

TEST_F(GrpcSession, AnAddressWhereNothingListensIsNamed) {
  Session session({.masters = {"127.0.0.1:1"}, .name = "test", .connect_timeout_ms = 300}, connector.get(),
                  &observer, SystemClock::Get());
  const Status status = session.Start();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("127.0.0.1:1"), std::string::npos) << status.message();
}

TEST_F(GrpcSession, ARefusedVersionIsFinal) {
  service.refuse_version = true;
  const std::string address = StartServer();
  Session session({.masters = {address}, .name = "test", .connect_timeout_ms = 20'000}, connector.get(),
                  &observer, SystemClock::Get());
  EXPECT_EQ(session.Start().code(), StatusCode::kVersionMismatch);
}

TEST_F(GrpcSession, RoundTripsFromSeveralThreadsAllArrive) {
  const std::string address = StartServer();
  Session session({.masters = {address}, .name = "test"}, connector.get(), &observer, SystemClock::Get());
  ASSERT_TRUE(session.Start().ok());
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        proto::Request request;
        request.mutable_sync();
        answered += session.Call(request).ok();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(answered, 2000);
  // For people: what one request costs when nothing else goes on.
  std::vector<double> micros;
  for (int i = 0; i < 1000; ++i) {
    proto::Request request;
    request.mutable_get_attr()->set_inode(1);
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(session.Call(request).ok());
    micros.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(micros.begin(), micros.end());
  std::printf("round trip: p50 %.0f us, p99 %.0f us\n", micros[500], micros[990]);
}

}  // namespace
}  // namespace cairn::client

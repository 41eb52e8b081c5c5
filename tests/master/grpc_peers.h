// A scripted client and a fake chunkserver that speak to a master over real connections.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

// The generated services hide methods of their own bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#include <grpcpp/grpcpp.h>

#include "proto/cairn/admin.grpc.pb.h"
#pragma GCC diagnostic pop
#include "client/session/stream.h"
#include "common/net/message_socket.h"
#include "tests/master/fakes.h"

namespace cairn::master {

inline constexpr auto kPatience = std::chrono::seconds(60);

inline std::shared_ptr<grpc::Channel> Connect(int port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);  // a connection of its own
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(),
                                   arguments);
}

class SessionPeer {
 public:
  explicit SessionPeer(int port) {
    auto opened = client::MakeFrameConnector()->Open("127.0.0.1:" + std::to_string(port), 10'000);
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    stream_ = *std::move(opened);
    reader_ = std::thread([this] { Read(); });
  }
  ~SessionPeer() { Break(); }

  // The connection goes away without a goodbye.
  void Break() {
    if (!reader_.joinable()) return;
    bool ended = false;
    {
      std::lock_guard lock(mu_);
      ended = ended_;
    }
    if (!ended) stream_->Cancel();  // otherwise the master's own status is what Finish tells
    reader_.join();
    final_ = stream_->Finish();
  }
  Status WaitForEnd() {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [&] { return ended_; });
    lock.unlock();
    Break();
    return final_;
  }

  proto::HelloReply Hello(uint64_t session = 0, const std::string& cluster = "") {
    proto::ClientMessage message;
    message.mutable_hello()->set_wire_version(wire::kWireVersion);
    message.mutable_hello()->set_session(session);
    message.mutable_hello()->set_cluster_id(cluster);
    message.mutable_hello()->set_client_name("grpc-test");
    Write(message);
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [&] { return hello_.has_value() || ended_; });
    if (hello_) session_ = hello_->session();
    return hello_.value_or(proto::HelloReply{});
  }
  uint64_t Send(proto::Request request) {
    if (request.number() == 0) request.set_number(next_++);
    *request.mutable_credentials() = Root();
    proto::ClientMessage message;
    const uint64_t number = request.number();
    *message.mutable_request() = std::move(request);
    Write(message);
    return number;
  }
  proto::Reply Wait(uint64_t number) {
    std::unique_lock lock(mu_);
    const bool came = changed_.wait_for(lock, kPatience, [&] { return replies_.contains(number) || ended_; });
    EXPECT_TRUE(came && replies_.contains(number)) << "no reply to request " << number;
    return replies_[number];
  }
  proto::Reply Call(proto::Request request) { return Wait(Send(std::move(request))); }
  proto::Reply Create(const std::string& name) {
    proto::Request request;
    request.mutable_create()->set_parent(1);
    request.mutable_create()->set_name(name);
    request.mutable_create()->set_mode(0644);
    request.mutable_create()->set_want_write(true);
    return Call(std::move(request));
  }
  // The first recall that arrives.
  proto::RecallItem WaitForRecall() {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return !recalls_.empty(); }));
    return recalls_.empty() ? proto::RecallItem{} : recalls_.front();
  }
  void Write(const proto::ClientMessage& message) {
    std::lock_guard lock(write_mu_);
    stream_->Write(message);
  }
  uint64_t session() const { return session_; }

 private:
  void Read() {
    proto::MasterMessage message;
    while (stream_->Read(&message)) {
      std::lock_guard lock(mu_);
      if (message.has_hello_reply()) hello_ = message.hello_reply();
      if (message.has_reply()) replies_[message.reply().number()] = message.reply();
      for (const proto::RecallItem& item : message.recall().items()) recalls_.push_back(item);
      changed_.notify_all();
    }
    std::lock_guard lock(mu_);
    ended_ = true;
    changed_.notify_all();
  }

  std::unique_ptr<client::MasterStream> stream_;
  std::thread reader_;
  std::mutex write_mu_;
  Status final_;
  uint64_t session_ = 0;
  uint64_t next_ = 1;
  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  std::optional<proto::HelloReply> hello_;
  std::map<uint64_t, proto::Reply> replies_;
  std::vector<proto::RecallItem> recalls_;
  bool ended_ = false;
};

// Registers, reports nothing, and answers every command by the rules of a real replica.
class ChunkserverPeer {
 public:
  ChunkserverPeer(int port, uint32_t index) {
    auto connected = net::MessageSocket::Connect("127.0.0.1:" + std::to_string(port), {.chunkserver = true});
    EXPECT_TRUE(connected.ok()) << connected.status().ToString();
    socket_ = *std::move(connected);
    proto::ChunkserverMessage message;
    proto::Register* request = message.mutable_register_();
    request->set_wire_version(wire::kWireVersion);
    request->set_server_uuid(Uuid{3, index}.ToString());
    request->set_data_address("127.0.0.1:" + std::to_string(10'000 + index));
    request->set_incarnation(1);
    proto::DiskInfo* disk = request->add_disks();
    disk->set_disk_uuid(Uuid{4, index}.ToString());
    disk->set_total_bytes(1ull << 40);
    disk->set_free_bytes(1ull << 39);
    Write(message);
    reader_ = std::thread([this] { Read(); });
    std::unique_lock lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return id_ != 0; }));
  }
  ~ChunkserverPeer() {
    socket_->Cancel();
    reader_.join();
  }

  uint32_t id() const {
    std::lock_guard lock(mu_);
    return id_;
  }
  // Runs `call` on what is stored.
  template <typename Call>
  auto WithReplicas(Call call) {
    std::lock_guard lock(mu_);
    return call(replicas_);
  }

 private:
  void Read() {
    while (const auto bytes = socket_->Read()) {
      proto::MasterToChunkserver message;
      EXPECT_TRUE(message.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())));
      proto::ChunkserverMessage answer;
      {
        std::lock_guard lock(mu_);
        if (message.has_register_reply()) {
          id_ = message.register_reply().server();
          answer.mutable_report()->set_last(true);
        } else if (message.has_command()) {
          answer.mutable_result()->set_number(message.command().number());
          for (const proto::ChunkCommand& command : message.command().chunks()) {
            *answer.mutable_result()->add_results() =
                replicas_.Execute(command, [](uint32_t) -> FakeReplicas* { return nullptr; });
          }
        } else {
          continue;
        }
      }
      Write(answer);
      changed_.notify_all();
    }
  }
  void Write(const proto::ChunkserverMessage& message) {
    const std::string bytes = message.SerializeAsString();
    socket_->Write(std::as_bytes(std::span(bytes)));
  }

  std::unique_ptr<net::MessageSocket> socket_;
  std::thread reader_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  uint32_t id_ = 0;
  FakeReplicas replicas_;
};

}  // namespace cairn::master

// QueryReplica: a blocking data-plane client of a few lines, apart from the production one on purpose.
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

#include "common/checksum.h"
#include "common/wire/frame.h"
#include "common/wire/messages.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

class Socket {
 public:
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Status Connect(const std::string& address) {
    const size_t colon = address.rfind(':');
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(address.substr(0, colon).c_str(), address.substr(colon + 1).c_str(), &hints, &found) !=
        0) {
      return {StatusCode::kUnavailable, "cannot resolve " + address};
    }
    fd_ = socket(found->ai_family, SOCK_STREAM, 0);
    const int result = connect(fd_, found->ai_addr, found->ai_addrlen);
    const int error = errno;
    freeaddrinfo(found);
    if (result != 0) return ErrnoStatus(error, "connect " + address);
    const timeval limit{5, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return Status::Ok();
  }
  Result<wire::Bytes> Call(wire::MessageType type, const wire::Bytes& meta) {
    wire::FrameHeader header;
    header.type = static_cast<uint8_t>(type);
    header.request_id = ++last_id_;
    header.meta_bytes = static_cast<uint32_t>(meta.size());
    header.meta_crc = Crc32c(meta);
    const auto bytes = wire::EncodeHeader(header);
    if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0 ||
        send(fd_, meta.data(), meta.size(), MSG_NOSIGNAL) < 0) {
      return ErrnoStatus(errno, "send");
    }
    std::array<std::byte, wire::kHeaderBytes> reply_bytes{};
    CAIRN_RETURN_IF_ERROR(Receive(reply_bytes));
    CAIRN_ASSIGN_OR_RETURN(const wire::FrameHeader reply, wire::DecodeHeader(reply_bytes));
    wire::Bytes reply_meta(reply.meta_bytes);
    CAIRN_RETURN_IF_ERROR(Receive(reply_meta));
    wire::Bytes data(reply.data_bytes);
    CAIRN_RETURN_IF_ERROR(Receive(data));
    return reply_meta;
  }

 private:
  Status Receive(std::span<std::byte> into) {
    while (!into.empty()) {
      const ssize_t n = recv(fd_, into.data(), into.size(), MSG_WAITALL);
      if (n <= 0) return {StatusCode::kUnavailable, "connection closed"};
      into = into.subspan(static_cast<size_t>(n));
    }
    return Status::Ok();
  }
  int fd_ = -1;
  uint64_t last_id_ = 0;
};

}  // namespace

Result<replication::ReplicaInfo> QueryReplica(const std::string& address, ChunkId chunk) {
  Socket socket;
  CAIRN_RETURN_IF_ERROR(socket.Connect(address));
  wire::HelloRequest hello;
  hello.kind = wire::PeerKind::kTool;
  hello.name = "probe";
  CAIRN_ASSIGN_OR_RETURN(const wire::Bytes hello_meta,
                         socket.Call(wire::MessageType::kHello, wire::Encode(hello)));
  CAIRN_ASSIGN_OR_RETURN(const wire::HelloReply hello_reply, wire::DecodeHelloReply(hello_meta));
  CAIRN_RETURN_IF_ERROR(hello_reply.status);
  wire::QueryRequest query;
  query.chunks.push_back(chunk);
  CAIRN_ASSIGN_OR_RETURN(const wire::Bytes meta, socket.Call(wire::MessageType::kQuery, wire::Encode(query)));
  CAIRN_ASSIGN_OR_RETURN(const wire::BatchReply reply, wire::DecodeBatchReply(meta));
  CAIRN_RETURN_IF_ERROR(reply.status);
  if (reply.items.size() != 1) return Status(StatusCode::kMalformed, "one item expected");
  CAIRN_RETURN_IF_ERROR(reply.items[0].status);
  return reply.items[0].info;
}

}  // namespace cairn::cluster_test

// The gRPC service of the master: it only moves messages between the network and the core's inbox. Only the
// .cc files here see gRPC.
//
// Thread-safety: used by gRPC's threads.
#pragma once

#include <memory>
#include <vector>

namespace grpc {
class Service;
}

namespace cairn::master {

class Core;

// For this core. It must outlive the gRPC server, and the core must outlive it.
std::unique_ptr<grpc::Service> MakeAdminService(Core* core);

}  // namespace cairn::master

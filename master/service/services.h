// The gRPC services of the master: they only move messages between the network and the core's inbox. Only the
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

// The two services for this core. They must outlive the gRPC server, and the core must outlive them.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(Core* core);
std::unique_ptr<grpc::Service> MakeClusterService(Core* core);
std::unique_ptr<grpc::Service> MakeAdminService(Core* core);

}  // namespace cairn::master

// The gRPC service of the master: it only moves messages between the network and the core's inbox. Only the
// .cc files here see gRPC.
//
// Thread-safety: used by gRPC's threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace grpc {
class Service;
}

namespace cairn::master {

class Core;

// For this core. It must outlive the gRPC server, and the core must outlive it. Calls that change something need
// `token` in their metadata (common/admin_token.h); when it is empty, nobody has to show one.
std::unique_ptr<grpc::Service> MakeAdminService(Core* core, std::string token);

}  // namespace cairn::master

// Linked only while the client library is not part of the tree: commands that need a session say so.
#include "client/client.h"

namespace cairn::client {

Result<std::unique_ptr<Client>> Client::Connect(const ClientOptions&, CacheListener*, const Clock*) {
  return Status(StatusCode::kNotSupported, "this build has no client library");
}

}  // namespace cairn::client

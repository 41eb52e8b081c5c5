// How waits inside the client library ask whether the calling thread's request was interrupted (see
// InterruptScope in client/client.h). Thread-safety: concerns the calling thread only.
#pragma once

namespace cairn::client {

// True when an InterruptScope of this thread is active and its function says so. Cheap enough to be asked on
// each wake-up of a wait; a wait should wake at least every 100 ms to ask.
bool ThreadInterrupted();

}  // namespace cairn::client

// The console's JSON interface: the messages of AdminService in the form that `cairn --json` prints, over
// HTTP. It calls the very service that the CLI calls, through a channel within the process.
//
//   GET  /api/status /api/sessions /api/locks /api/rebalance
//   GET  /api/events?after=N&max=N&newest=N   /api/server-chunks?server=N
//   GET  /api/chunk?chunk=N | ?inode=N&index=N   /api/browse?path=P | ?inode=N   (&cursor=N&max=N)
//   GET  /api/history?after=N[&server=N]      /api/session
//   POST /api/login {"token"} -> {"session"}   /api/logout   /api/whatif (WhatIfRequest)
//   POST /api/server (ChangeServerRequest)   /api/rebalance (RebalanceRequest)
//
// What changes something needs a login (its secret in Cairn-Session) or the token itself
// (Authorization: Bearer); what only tells (previews, plans) does not, unless `login_to_read`.
//
// Thread-safety: any thread; calls block until the master answers, at most some seconds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "master/console/history.h"
#include "master/console/http.h"
#include "master/console/logins.h"

namespace grpc {
class Channel;
}

namespace cairn::master::console {

struct ApiOptions {
  std::string token;               // of administrators
  std::vector<std::string> hosts;  // further names of this machine
  bool login_to_read = false;
};

class Api {
 public:
  Api(ApiOptions options, std::shared_ptr<grpc::Channel> master, const History* history, const Clock* clock);
  ~Api();

  // Everything below /api/. Host and origin are checked here, too.
  Response Handle(const Request& request);
  // The state of the cluster, for the history. False: no answer.
  bool ReadStatus(proto::StatusResponse* status);

 private:
  class Calls;
  struct Route;
  static const std::vector<Route>& Routes();
  // Whether whoever asks is an administrator; otherwise why not.
  Status Authorize(const Request& request);
  Response Login(const Request& request);
  Response Logout(const Request& request);
  Response Session(const Request& request);

  const ApiOptions options_;
  const History* const history_;
  Logins logins_;
  const std::unique_ptr<Calls> calls_;
};

}  // namespace cairn::master::console

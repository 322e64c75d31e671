// Connector makes the sockets of one NBD disk: it connects to the one server
// that the VM description names, each time the disk's service asks, and hands
// the socket over. It never reads or writes a byte of what passes there.
//
// Attempts that fail are repeated, at growing distances; so are connections
// that did not last. The service waits, or gives up, by itself.
//
// TRUST    The service is hostile: it can ask, and nothing else. The server is
//          not spoken to.
// ERRORS   Told in the log; the loop ends when the launcher closes control.
// THREADS  One.

#ifndef BULKHEAD_CONNECTOR_CONNECTOR_H_
#define BULKHEAD_CONNECTOR_CONNECTOR_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bulkhead {

class ConnectorConfig;

namespace connector {

struct Address {
  sockaddr_storage bytes = {};
  socklen_t size = 0;
};

class Connector {
 public:
  // Both fds stay the caller's.
  Connector(int control, int service);

  // Takes the addresses; a UNIX socket's name is one in the current folder.
  absl::Status Configure(const ConnectorConfig& config);
  void Run();

 private:
  void OnService();
  void Try(uint64_t now_ms);
  void OnConnecting();
  void Failed(int error);
  void HandOver();
  void CloseSocket();
  static void Log(const std::string& line);

  const int control_;
  const int service_;
  std::string name_;
  std::vector<Address> addresses_;
  size_t next_address_ = 0;
  bool service_open_ = true;
  bool wanted_ = false;
  bool told_ = false;  // of the failure that lasts
  int socket_ = -1;    // being connected
  uint64_t next_try_ms_ = 0;
  uint64_t pause_ms_ = 0;
  uint64_t handed_over_ms_ = 0;
};

}  // namespace connector
}  // namespace bulkhead

#endif  // BULKHEAD_CONNECTOR_CONNECTOR_H_

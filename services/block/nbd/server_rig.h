// What the tests of the NBD backend stand on: a server in a process of its own
// that can be killed and started again, a server whose every byte a test
// decides, and the launcher's end of the connector.
//
// THREADS  The test's; Connector has one of its own.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_SERVER_RIG_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_SERVER_RIG_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "services/block/nbd/backend.h"

namespace bulkhead::block::nbd {

// A directory of the test's own.
std::string TemporaryDirectory();
void Shell(const std::string& command);

// nbdkit or qemu-nbd.
class ServerProcess {
 public:
  // arguments[0] is the program; it must create `socket`.
  ServerProcess(std::vector<std::string> arguments, std::string socket)
      : arguments_(std::move(arguments)), socket_(std::move(socket)) {}
  ~ServerProcess() { Kill(); }

  // Returns when it can be connected to.
  void Start();
  void Kill();  // SIGKILL
  const std::string& socket() const { return socket_; }

 private:
  const std::vector<std::string> arguments_;
  const std::string socket_;
  pid_t pid_ = -1;
};

// The launcher's part: connects, and hands the sockets in.
class Connector {
 public:
  // `connect` returns a connected, non-blocking socket, or -1: again later.
  explicit Connector(std::function<int()> connect);
  ~Connector();
  int service_end() const { return ends_[1]; }
  int connections() const { return connections_.load(); }

 private:
  void Serve();
  bool Connect();

  const std::function<int()> connect_;
  int ends_[2];
  int wake_;
  std::atomic<int> connections_{0};
  std::thread thread_;
};

// A stream socket connected to `path`, or -1.
int ConnectToUnix(const std::string& path);

// Plays a server, one connection at a time: reads and writes what it is told.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(FakeServer&)> play);
  ~FakeServer();
  // For Connector: a new connection, on which `play` runs in a thread.
  int Connect();

  // ---- for `play`
  bool Read(void* to, size_t size_bytes);
  void Write(const void* from, size_t size_bytes);
  template <typename Int>
  void WriteBig(Int value) {
    uint8_t bytes[sizeof(Int)];
    for (size_t i = 0; i < sizeof(Int); ++i) {
      bytes[i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >>
                                      (8 * (sizeof(Int) - 1 - i)));
    }
    Write(bytes, sizeof(bytes));
  }
  // The handshake of an honest server that offers flush, FUA, trim and zeroes.
  // False: the client has gone.
  bool ShakeHands(uint64_t size_bytes);

  struct ClientCommand {
    uint16_t flags = 0;
    uint16_t type = 0;  // 0 read, 1 write, 2 disconnect, 3 flush ...
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
    std::string data;
  };
  bool ReadCommand(ClientCommand* command);
  void SimpleReply(uint64_t cookie, uint32_t error, const std::string& data);
  int connection_number() const { return connection_; }
  void Close();

 private:
  const std::function<void(FakeServer&)> play_;
  std::vector<std::thread> threads_;
  std::vector<int> sockets_;
  int connection_ = 0;
  int socket_ = -1;
};

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_SERVER_RIG_H_

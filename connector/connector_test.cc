#include "connector/connector.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "proto/backend_connector.h"
#include "proto/frame.pb.h"

namespace bulkhead::connector {
namespace {

// A connector in a thread, whose current folder holds the server's socket.
class ConnectorTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_), nullptr);
    ASSERT_EQ(chdir(folder_), 0);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control_), 0);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, service_), 0);
    connector_ = std::make_unique<Connector>(control_[1], service_[1]);
    ConnectorConfig config;
    config.set_name("test");
    config.set_socket_name("server");
    ASSERT_TRUE(connector_->Configure(config).ok());
    thread_ = std::thread([this] { connector_->Run(); });
  }
  void TearDown() override {
    close(control_[0]);
    thread_.join();
    if (listener_ >= 0) close(listener_);
    unlink("server");
    (void)!chdir("/");
    rmdir(folder_);
  }

  void Listen() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, "server");
    unlink("server");
    if (listener_ >= 0) close(listener_);
    listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(
        bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
        0);
    ASSERT_EQ(listen(listener_, 5), 0);
  }

  void Ask() {
    const char byte = kConnectPlease;
    ASSERT_EQ(send(service_[0], &byte, 1, 0), 1);
  }

  // The socket that was handed over; -1: none within the time.
  int TakeSocket(int timeout_ms) {
    pollfd event = {service_[0], POLLIN, 0};
    if (poll(&event, 1, timeout_ms) <= 0) return -1;
    char byte = 0;
    iovec segment = {&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message = {};
    message.msg_iov = &segment;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(service_[0], &message, 0) != 1 || byte != kConnected) return -1;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
  }

  char folder_[32] = "/tmp/bulkhead-connect-XXXXXX";
  int control_[2];
  int service_[2];
  int listener_ = -1;
  std::unique_ptr<Connector> connector_;
  std::thread thread_;
};

TEST_F(ConnectorTest, ConnectsWhenAskedAndNeverUnasked) {
  Listen();
  EXPECT_EQ(TakeSocket(50), -1);
  Ask();
  const int socket = TakeSocket(5000);
  ASSERT_GE(socket, 0);
  EXPECT_NE(fcntl(socket, F_GETFL) & O_NONBLOCK, 0);
  const int server = accept(listener_, nullptr, nullptr);
  EXPECT_EQ(write(server, "x", 1), 1);
  pollfd event = {socket, POLLIN, 0};
  EXPECT_EQ(poll(&event, 1, 5000), 1);
  close(server);
  close(socket);
}

TEST_F(ConnectorTest, TriesOnUntilTheServerIsThere) {
  Ask();
  EXPECT_EQ(TakeSocket(100), -1);
  Listen();
  const int socket = TakeSocket(5000);
  EXPECT_GE(socket, 0);
  close(socket);
}

// A service that was taken over asks without end.
TEST_F(ConnectorTest, ConnectionsThatDoNotLastComeAtGrowingDistances) {
  Listen();
  int made = 0;
  for (int i = 0; i < 100; ++i) {
    Ask();
    const int socket = TakeSocket(20);
    if (socket < 0) continue;
    ++made;
    close(socket);
  }
  EXPECT_GE(made, 1);
  EXPECT_LE(made, 8);  // at 0, 50, 150, 350, 750, 1550 ms ...
}

TEST(ConnectorConfigTest, PathThatLeavesTheFolderIsRefused) {
  Connector connector(-1, -1);
  ConnectorConfig config;
  config.set_socket_name("../other");
  EXPECT_FALSE(connector.Configure(config).ok());
  config.set_socket_name("");
  EXPECT_FALSE(connector.Configure(config).ok());
}

}  // namespace
}  // namespace bulkhead::connector

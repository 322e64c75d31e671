#include "services/block/nbd/server_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "proto/backend_connector.h"

namespace bulkhead::block::nbd {
namespace {

constexpr uint64_t kMagic = 0x4e42444d41474943;        // "NBDMAGIC"
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint64_t kReplyMagic = 0x3e889045565a9;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleMagic = 0x67446698;

[[noreturn]] void Die(const char* what) {
  perror(what);
  abort();
}

template <typename Int>
Int FromBig(const uint8_t* bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value = value << 8 | bytes[i];
  return static_cast<Int>(value);
}

}  // namespace

std::string TemporaryDirectory() {
  // Short, for it holds sockets; in memory, for a busy disk stalls a server.
  std::string path = "/dev/shm/bulkhead-nbd-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) Die("mkdtemp");
  return path;
}

void Shell(const std::string& command) {
  if (system(command.c_str()) != 0) {
    fprintf(stderr, "failed: %s\n", command.c_str());
    abort();
  }
}

int ConnectToUnix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
      0) {
    close(fd);
    return -1;
  }
  fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
  return fd;
}

void ServerProcess::Start() {
  unlink(socket_.c_str());
  pid_ = fork();
  if (pid_ == 0) {
    std::vector<char*> arguments;
    for (const std::string& argument : arguments_) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    perror(arguments[0]);
    _exit(127);
  }
  for (int i = 0; i < 1000; ++i) {
    const int fd = ConnectToUnix(socket_);
    if (fd >= 0) {
      close(fd);
      return;
    }
    int status;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      fprintf(stderr, "%s ended at once (is it installed?)\n",
              arguments_[0].c_str());
      abort();
    }
    usleep(10'000);
  }
  fprintf(stderr, "%s does not listen\n", arguments_[0].c_str());
  abort();
}

void ServerProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Connector::Connector(std::function<int()> connect)
    : connect_(std::move(connect)) {
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) != 0) {
    Die("socketpair");
  }
  wake_ = eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { Serve(); });
}

Connector::~Connector() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_, &one, sizeof(one));
  thread_.join();
  close(wake_);
  close(ends_[0]);
  close(ends_[1]);
}

void Connector::Serve() {
  bool wanted = false;
  for (;;) {
    if (wanted && Connect()) wanted = false;
    pollfd events[2] = {{ends_[0], POLLIN, 0}, {wake_, POLLIN, 0}};
    poll(events, 2, wanted ? 20 : -1);
    if (events[1].revents != 0) return;
    if (events[0].revents == 0) continue;
    char byte;
    if (recv(ends_[0], &byte, 1, MSG_DONTWAIT) == 1) {
      wanted |= byte == kConnectPlease;
    }
  }
}

bool Connector::Connect() {
  const int socket = connect_();
  if (socket < 0) return false;
  char byte = kConnected;
  iovec segment = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &segment;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &socket, sizeof(socket));
  connections_.fetch_add(1);
  if (sendmsg(ends_[0], &message, MSG_NOSIGNAL) != 1) Die("sendmsg");
  close(socket);
  return true;
}

FakeServer::FakeServer(std::function<void(FakeServer&)> play)
    : play_(std::move(play)) {}

FakeServer::~FakeServer() {
  for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
  for (std::thread& thread : threads_) thread.join();
  for (const int socket : sockets_) close(socket);
}

int FakeServer::Connect() {
  // One play at a time: the client has given the older connection up.
  if (!threads_.empty()) {
    shutdown(sockets_.back(), SHUT_RDWR);
    threads_.back().join();
    threads_.pop_back();
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    Die("socketpair");
  }
  fcntl(ends[1], F_SETFL, O_RDWR | O_NONBLOCK);
  sockets_.push_back(ends[0]);
  socket_ = ends[0];
  ++connection_;
  threads_.emplace_back([this] { play_(*this); });
  return ends[1];
}

void FakeServer::Close() { shutdown(socket_, SHUT_RDWR); }

bool FakeServer::Read(void* to, size_t size_bytes) {
  auto* at = static_cast<uint8_t*>(to);
  while (size_bytes > 0) {
    const ssize_t got = recv(socket_, at, size_bytes, 0);
    if (got <= 0) return false;
    at += got;
    size_bytes -= static_cast<size_t>(got);
  }
  return true;
}

void FakeServer::Write(const void* from, size_t size_bytes) {
  const auto* at = static_cast<const uint8_t*>(from);
  while (size_bytes > 0) {
    const ssize_t sent = send(socket_, at, size_bytes, MSG_NOSIGNAL);
    if (sent <= 0) return;
    at += sent;
    size_bytes -= static_cast<size_t>(sent);
  }
}

// Fixed newstyle: every option but NBD_OPT_GO is refused.
bool FakeServer::ShakeHands(uint64_t size_bytes) {
  WriteBig<uint64_t>(kMagic);
  WriteBig<uint64_t>(kOptionMagic);
  WriteBig<uint16_t>(3);  // fixed newstyle, no zeroes
  uint8_t client_flags[4];
  if (!Read(client_flags, sizeof(client_flags))) return false;
  for (;;) {
    uint8_t header[16];
    if (!Read(header, sizeof(header))) return false;
    const auto option = FromBig<uint32_t>(header + 8);
    std::string data(FromBig<uint32_t>(header + 12), '\0');
    if (!Read(data.data(), data.size())) return false;
    WriteBig<uint64_t>(kReplyMagic);
    WriteBig<uint32_t>(option);
    if (option != 7) {                 // NBD_OPT_GO
      WriteBig<uint32_t>(0x80000001);  // NBD_REP_ERR_UNSUP
      WriteBig<uint32_t>(0);
      continue;
    }
    WriteBig<uint32_t>(3);  // NBD_REP_INFO
    WriteBig<uint32_t>(12);
    WriteBig<uint16_t>(0);  // NBD_INFO_EXPORT
    WriteBig<uint64_t>(size_bytes);
    // HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
    WriteBig<uint16_t>(1 | 4 | 8 | 32 | 64);
    WriteBig<uint64_t>(kReplyMagic);
    WriteBig<uint32_t>(option);
    WriteBig<uint32_t>(1);  // NBD_REP_ACK
    WriteBig<uint32_t>(0);
    return true;
  }
}

bool FakeServer::ReadCommand(ClientCommand* command) {
  uint8_t header[28];
  if (!Read(header, sizeof(header))) return false;
  if (FromBig<uint32_t>(header) != kRequestMagic) return false;
  command->flags = FromBig<uint16_t>(header + 4);
  command->type = FromBig<uint16_t>(header + 6);
  command->cookie = FromBig<uint64_t>(header + 8);
  command->offset = FromBig<uint64_t>(header + 16);
  command->length = FromBig<uint32_t>(header + 24);
  command->data.clear();
  if (command->type == 1) {
    command->data.resize(command->length);
    if (!Read(command->data.data(), command->data.size())) return false;
  }
  return true;
}

void FakeServer::SimpleReply(uint64_t cookie, uint32_t error,
                             const std::string& data) {
  WriteBig<uint32_t>(kSimpleMagic);
  WriteBig<uint32_t>(error);
  WriteBig<uint64_t>(cookie);
  Write(data.data(), data.size());
}

}  // namespace bulkhead::block::nbd

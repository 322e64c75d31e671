#include "tests/containment/attempts.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"

namespace bulkhead::containment {

alignas(4096) char scratch[64 * 1024];

long Int80(long number, long first) {
  long result;
  asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first) : "memory");
  return result;
}

// Paths live where no allocation is needed after the lock-down.
char* In(const S& s, const char* name) {
  static char path[2][512];
  static int turn = 0;
  turn ^= 1;
  strncpy(path[turn], s.folder.c_str(), 400);
  strncat(path[turn], "/", 2);
  strncat(path[turn], name, 100);
  return path[turn];
}
char* ProcOf(const S& s, const char* name) {
  static char path[128];
  char digits[16];
  int at = 15;
  digits[at] = 0;
  for (pid_t pid = s.sibling; pid > 0; pid /= 10) {
    digits[--at] = static_cast<char>('0' + pid % 10);
  }
  strcpy(path, "/proc/");
  strncat(path, digits + at, 16);
  strncat(path, name, 64);
  return path;
}

socklen_t UnixAddress(const char* name, bool abstract, sockaddr_un* address) {
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  strncpy(address->sun_path + (abstract ? 1 : 0), name, 100);
  return offsetof(sockaddr_un, sun_path) + strlen(name) + 1;
}

long ConnectUnix(const char* name, bool abstract) {
  sockaddr_un address;
  const socklen_t size = UnixAddress(name, abstract, &address);
  const long fd = Raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  return fd < 0 ? fd : Raw(SYS_connect, fd, P(&address), size);
}

long ConnectTcp(const S& s, int type) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(s.tcp_port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const long fd = Raw(SYS_socket, AF_INET, type, 0);
  return fd < 0 ? fd : Raw(SYS_connect, fd, P(&address), sizeof(address));
}

// An fd that a taken-over neighbour hands over on the control channel.
long TakeFd() {
  char byte;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  if (recvmsg(kControlFd, &message, MSG_DONTWAIT) < 0) return -1;
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (head == nullptr) return -2;  // no room for it
  int fd;
  memcpy(&fd, CMSG_DATA(head), sizeof(fd));
  return fd;
}

long SendFd(int socket, int fd) {
  char bytes[] = "\xff\xff\xff\xff";
  iovec data = {bytes, 4};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

std::vector<std::string> Surroundings::ToArguments() const {
  return {folder,
          abstract,
          absl::StrCat(tcp_port),
          absl::StrCat(sibling),
          absl::StrCat(word),
          absl::StrCat(launcher)};
}

Surroundings Surroundings::FromArguments(char** begin, char** end) {
  Surroundings s;
  if (end - begin < 6) return s;
  int port = 0;
  int sibling = 0;
  s.folder = begin[0];
  s.abstract = begin[1];
  if (absl::SimpleAtoi(begin[2], &port)) s.tcp_port = port;
  if (absl::SimpleAtoi(begin[3], &sibling)) s.sibling = sibling;
  if (!absl::SimpleAtoi(begin[4], &s.word)) s.word = 0;
  int launcher = 0;
  if (absl::SimpleAtoi(begin[5], &launcher)) s.launcher = launcher;
  return s;
}

const std::vector<Attempt>& AllAttempts() {
  static const auto& all = *[] {
    auto* attempts = new std::vector<Attempt>;
    for (const std::vector<Attempt>* group :
         {&Files(), &Sockets(), &Processes(), &Memory(), &Kernel(),
          &Privileges(), &Exhaustion()}) {
      attempts->insert(attempts->end(), group->begin(), group->end());
    }
    return attempts;
  }();
  return all;
}

}  // namespace bulkhead::containment

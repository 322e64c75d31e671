#include "policy/ask_launcher.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "policy/live_filters.h"
#include "proto/launch.pb.h"

namespace bulkhead::policy {
namespace {

constexpr char kPrefix[] = "@bulkhead/";
constexpr char kSuffix[] = "/filters";

struct Socket {
  std::string name;  // without the @
  std::string vm;
  pid_t launcher;
};

// /proc/net/unix shows abstract names with an @ in front.
std::vector<Socket> Sockets() {
  std::vector<Socket> sockets;
  std::ifstream in("/proc/net/unix");
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find(kPrefix);
    if (at == std::string::npos || !absl::EndsWith(line, kSuffix)) continue;
    const std::string name = line.substr(at + 1);
    const std::vector<std::string> parts = absl::StrSplit(name, '/');
    pid_t launcher = 0;
    if (parts.size() == 4 && absl::SimpleAtoi(parts[2], &launcher)) {
      sockets.push_back({name, parts[1], launcher});
    }
  }
  return sockets;
}

absl::StatusOr<int> Connect(const Socket& socket_name) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string& name = socket_name.name;
  memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  ucred peer = {};
  socklen_t peer_size = sizeof(peer);
  const timeval limit = {.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  std::string problem;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    problem = absl::StrCat("connecting to ", name, ": ", strerror(errno));
  } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 ||
             peer.pid != socket_name.launcher) {
    problem = absl::StrCat("another process listens on ", name);
  }
  if (problem.empty()) return fd;
  close(fd);
  return absl::UnavailableError(problem);
}

absl::StatusOr<std::vector<std::vector<sock_filter>>> Filters(
    const FilterReading& reading) {
  if (reading.error() != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("its launcher: ", WhyUnread(reading.error())));
  }
  std::vector<std::vector<sock_filter>> filters;
  for (const std::string& bytes : reading.filters()) {
    filters.emplace_back(bytes.size() / sizeof(sock_filter));
    memcpy(filters.back().data(), bytes.data(),
           filters.back().size() * sizeof(sock_filter));
  }
  return filters;
}

// What a launcher says of all its processes.
absl::StatusOr<std::vector<FilterReading>> Ask(pid_t launcher) {
  absl::Status refused = absl::UnavailableError(
      absl::StrCat("process ", launcher,
                   " traces it, who alone can read them, and offers no socket "
                   "for it (not a launcher of this version)"));
  for (const Socket& socket : Sockets()) {
    if (socket.launcher != launcher) continue;
    absl::StatusOr<int> fd = Connect(socket);
    if (!fd.ok()) {
      refused = fd.status();  // anybody can take a name: look further
      continue;
    }
    absl::Cleanup close_fd = [&fd] { close(*fd); };
    std::vector<FilterReading> readings;
    std::string packet(1 << 17, '\0');
    ssize_t size;
    while ((size = recv(*fd, packet.data(), packet.size(), 0)) > 0) {
      FilterReading reading;
      if (reading.ParseFromArray(packet.data(), static_cast<int>(size))) {
        readings.push_back(reading);
      }
    }
    if (size == 0) return readings;
    return absl::UnavailableError(
        absl::StrCat("its launcher does not answer: ", strerror(errno)));
  }
  return refused;
}

}  // namespace

std::vector<pid_t> LaunchersOf(const std::string& vm) {
  std::vector<pid_t> launchers;
  for (const Socket& socket : Sockets()) {
    if (socket.vm == vm) launchers.push_back(socket.launcher);
  }
  return launchers;
}

std::map<pid_t, std::string> PoliciesOf(pid_t launcher) {
  std::map<pid_t, std::string> policies;
  const absl::StatusOr<std::vector<FilterReading>> readings = Ask(launcher);
  if (!readings.ok()) return policies;
  for (const FilterReading& reading : *readings) {
    policies[reading.pid()] = reading.policy();
  }
  return policies;
}

absl::StatusOr<std::vector<std::vector<sock_filter>>> AskLauncher(
    pid_t launcher, pid_t pid) {
  const absl::StatusOr<std::vector<FilterReading>> readings = Ask(launcher);
  if (!readings.ok()) return readings.status();
  for (const FilterReading& reading : *readings) {
    if (reading.pid() == pid) return Filters(reading);
  }
  return absl::UnavailableError(
      "its launcher refuses to answer this user, or does not know the process");
}

}  // namespace bulkhead::policy

#include "policy/ask_launcher.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "policy/launcher_socket.h"
#include "policy/live_filters.h"
#include "proto/launch.pb.h"

namespace bulkhead::policy {
namespace {

constexpr int kSeconds = 10;

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
  for (const LauncherSocket& socket : LauncherSockets()) {
    if (socket.launcher != launcher) continue;
    absl::StatusOr<int> fd = Connect(socket, kSeconds);
    if (!fd.ok()) {
      refused = fd.status();  // anybody can take a name: look further
      continue;
    }
    absl::Cleanup close_fd = [&fd] { close(*fd); };
    UserRequest request;
    request.mutable_filters();
    const std::string question = request.SerializeAsString();
    (void)send(*fd, question.data(), question.size(), MSG_NOSIGNAL);
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
  for (const LauncherSocket& socket : LauncherSockets()) {
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

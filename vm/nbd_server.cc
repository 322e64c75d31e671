#include "vm/nbd_server.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "vm/nbd_uri.h"

namespace bulkhead::vm {
namespace {

constexpr int kConnectMs = 5000;

// 0 or an errno.
int TryToConnect(const sockaddr* address, socklen_t size) {
  const Fd fd(socket(address->sa_family,
                     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  if (connect(fd.get(), address, size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd event = {fd.get(), POLLOUT, 0};
  if (poll(&event, 1, kConnectMs) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

absl::Status NotThere(const Description& description, const ImageUse& use,
                      const std::string& why) {
  return description.ErrorAt(use.field + ".nbd.uri", kExitBadConfig, "BH-C113",
                             absl::StrCat(use.path, ": ", why),
                             "start the server first, and see that this host "
                             "and user may connect to it");
}

absl::StatusOr<FoundServer> FindUnix(const Description& description,
                                     const ImageUse& use, const NbdUri& uri) {
  const std::string path = description.Resolve(uri.socket_path);
  const size_t slash = path.rfind('/');
  const std::string folder = slash == 0 ? "/" : path.substr(0, slash);
  FoundServer found;
  found.config.set_socket_name(path.substr(slash + 1));
  found.folder = Fd(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat status;
  if (!found.folder.valid() ||
      fstatat(found.folder.get(), found.config.socket_name().c_str(), &status,
              0) != 0) {
    return NotThere(description, use, ErrnoText(errno));
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return NotThere(description, use, "the socket's path is too long");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (const int error = TryToConnect(
          reinterpret_cast<const sockaddr*>(&address), sizeof(address));
      error != 0) {
    return NotThere(description, use, ErrnoText(error));
  }
  // Nothing jailed is root outside: somebody else must be let in.
  if (geteuid() == 0 && (status.st_mode & S_IWOTH) == 0) {
    if (status.st_uid == 0) {
      return description.ErrorAt(
          use.field + ".nbd.uri", kExitPermission, "BH-C110",
          absl::StrCat(use.path,
                       ": only root may connect to this socket, and "
                       "no process of a VM is root"),
          "run the server as another user, make its socket writable for "
          "others after each of its starts, or let it listen on TCP");
    }
    found.owner = status.st_uid;
  }
  return found;
}

absl::StatusOr<FoundServer> FindTcp(const Description& description,
                                    const ImageUse& use, const NbdUri& uri) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error =
          getaddrinfo(uri.host.c_str(), uri.port.c_str(), &hints, &list);
      error != 0) {
    return NotThere(description, use, gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(list,
                                                             freeaddrinfo);
  FoundServer found;
  int error = EADDRNOTAVAIL;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    const int result = TryToConnect(at->ai_addr, at->ai_addrlen);
    // The one that answers comes first, the others stay for later.
    const std::string bytes(reinterpret_cast<const char*>(at->ai_addr),
                            at->ai_addrlen);
    found.config.add_addresses(bytes);
    if (result == 0 && error != 0) {
      found.config.mutable_addresses()->SwapElements(
          0, found.config.addresses_size() - 1);
    }
    error = error == 0 ? 0 : result;
  }
  if (error != 0) return NotThere(description, use, ErrnoText(error));
  return found;
}

}  // namespace

absl::StatusOr<FoundServer> FindNbdServer(const Description& description,
                                          const ImageUse& use) {
  absl::StatusOr<NbdUri> uri = ParseNbdUri(use.path);
  if (!uri.ok()) return uri.status();
  absl::StatusOr<FoundServer> found = uri->socket_path.empty()
                                          ? FindTcp(description, use, *uri)
                                          : FindUnix(description, use, *uri);
  if (found.ok()) found->config.set_name(use.path);
  return found;
}

}  // namespace bulkhead::vm

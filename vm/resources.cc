#include "vm/resources.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "vm/image.h"
#include "vm/memory.h"
#include "vm/nbd_server.h"

namespace bulkhead::vm {
namespace {

using Kind = Resource::Kind;

// For what a device keeps to resume; pages that it does not write cost nothing.
constexpr uint64_t kStateBytes = 1 << 20;

std::tuple<Kind, int, int> KeyOf(const Resource& resource) {
  return {resource.kind, resource.device, resource.index};
}

absl::Status Failed(const std::string& what) {
  const int error = errno;
  if (error == EMFILE || error == ENFILE || error == ENOMEM) {
    return UserError{.exit_code = kExitMissingFeature,
                     .id = "BH-S205",
                     .what = absl::StrCat(what, ": ", ErrnoText(error)),
                     .fix = error == EMFILE
                                ? "raise this shell's limit: ulimit -n 1024"
                                : "end other programs"}
        .ToStatus();
  }
  return absl::InternalError(absl::StrCat(what, ": ", ErrnoText(error)));
}

absl::Status DirectoryError(const std::string& directory,
                            const std::string& what, const std::string& fix) {
  return UserError{.exit_code = kExitBadConfig,
                   .id = "BH-S203",
                   .where = "--runtime_dir=" + Escape(directory),
                   .what = what,
                   .fix = fix}
      .ToStatus();
}

// What QEMU loads into guest RAM, and so no more than that.
absl::StatusOr<Fd> SealedCopyOf(const Description& description,
                                const std::string& field,
                                const std::string& path, uint64_t ram_bytes) {
  // O_NONBLOCK: a FIFO in its place must not hold us up.
  const Fd file(open(description.Resolve(path).c_str(),
                     O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status;
  if (!file.valid() || fstat(file.get(), &status) != 0) {
    const int error = errno;
    return description.ErrorAt(
        field, error == EACCES ? kExitPermission : kExitBadConfig,
        error == EACCES ? "BH-C110" : "BH-C104",
        absl::StrCat(path, ": ", ErrnoText(error)),
        "name a file that you may read");
  }
  if (!S_ISREG(status.st_mode)) {
    return description.ErrorAt(
        field, kExitBadConfig, "BH-C106",
        absl::StrCat(path, " is a ",
                     S_ISDIR(status.st_mode) ? "directory" : "special file"),
        "name a file");
  }
  const auto bytes = static_cast<uint64_t>(status.st_size);
  if (bytes > ram_bytes) {
    return description.ErrorAt(
        field, kExitBadConfig, "BH-C107",
        absl::StrCat(path, " has ", bytes, " bytes, and the guest's RAM ",
                     ram_bytes),
        "name another file, or give the guest more memory");
  }
  return MakeSealedCopy(field, file.get());
}

// A service maps images that lie in memory, beside guest RAM.
void AllowMapping(int image, int device, Plan* plan) {
  struct stat status;
  struct statfs filesystem;
  if (fstat(image, &status) != 0 || !S_ISREG(status.st_mode) ||
      fstatfs(image, &filesystem) != 0 || filesystem.f_type != TMPFS_MAGIC) {
    return;
  }
  for (PlannedProcess& process : plan->processes) {
    if (process.role == PlannedProcess::Role::kService &&
        process.device == device) {
      process.mapped_bytes += static_cast<uint64_t>(status.st_size);
    }
  }
}

}  // namespace

Resources::~Resources() {
  fds_.clear();
  while (!paths_.empty()) {
    // remove() takes files and empty directories alike.
    (void)remove(paths_.back().c_str());
    paths_.pop_back();
  }
}

namespace {

// A service may make no file larger than the largest that its images may
// become; its state is a file, too.
void LimitFiles(int device, uint64_t bytes, Plan* plan) {
  using Role = PlannedProcess::Role;
  for (PlannedProcess& process : plan->processes) {
    if (process.device == device &&
        (process.role == Role::kService || process.role == Role::kRemote)) {
      process.file_bytes = std::max({process.file_bytes, bytes, kStateBytes});
    }
  }
}

}  // namespace

absl::Status Resources::OpenImages(const Description& description, Plan* plan) {
  absl::Status errors;
  for (size_t d = 0; d < plan->devices.size(); ++d) {
    PlannedDevice& device = plan->devices[d];
    LimitFiles(static_cast<int>(d), 0, plan);
    for (size_t i = 0; i < device.images.size(); ++i) {
      if (device.images[i].nbd) {
        errors = Join(std::move(errors),
                      FindServer(description, plan, static_cast<int>(d),
                                 static_cast<int>(i)));
        continue;
      }
      absl::StatusOr<OpenedImage> image =
          OpenImage(description, device.images[i]);
      if (!image.ok()) {
        errors = Join(std::move(errors), image.status());
        continue;
      }
      if (!device.images[i].is_key) {
        device.images[i].In(&device.config)->set_format(image->format);
      }
      BackendConfig* backend =
          device.config.mutable_backends(device.images[i].backend);
      backend->set_direct_alignment_bytes(std::max(
          backend->direct_alignment_bytes(), image->direct_alignment_bytes));
      AllowMapping(image->fd.get(), static_cast<int>(d), plan);
      const Resource reader = {Kind::kImageReader, static_cast<int>(d),
                               static_cast<int>(i)};
      if (IsHeld(*plan, reader)) {
        const std::string self =
            absl::StrCat("/proc/self/fd/", image->fd.get());
        fds_[KeyOf(reader)] = Fd(open(self.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fds_[KeyOf(reader)].valid()) return Failed(self);
      }
      LimitFiles(static_cast<int>(d), image->most_bytes, plan);
      fds_[{Kind::kImage, static_cast<int>(d), static_cast<int>(i)}] =
          std::move(image->fd);
    }
  }
  return errors;
}

absl::Status Resources::FindServer(const Description& description, Plan* plan,
                                   int device, int image) {
  PlannedDevice& planned = plan->devices[device];
  absl::StatusOr<FoundServer> found =
      FindNbdServer(description, planned.images[image]);
  if (!found.ok()) return found.status();
  planned.servers[image] = found->config;
  if (found->folder.valid()) {
    fds_[{Kind::kServerFolder, device, image}] = std::move(found->folder);
  }
  for (PlannedProcess& process : plan->processes) {
    if (process.role == PlannedProcess::Role::kConnector &&
        process.device == device && process.image == image &&
        found->owner != 0) {
      process.outside_id = found->owner;
    }
  }
  return MakePair(SOCK_SEQPACKET, {Kind::kConnector, device, image},
                  {Kind::kConnectorServer, device, image});
}

absl::Status Resources::MakeMemories(const Description& description,
                                     const Plan& plan) {
  absl::StatusOr<Fd> ram = MakeMemory("guest-ram", plan.ram_bytes);
  if (!ram.ok()) return ram.status();
  fds_[{Kind::kRam, -1, 0}] = *std::move(ram);
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const int device = static_cast<int>(d);
    if (!IsHeld(plan, {Kind::kState, device})) continue;
    absl::StatusOr<Fd> state = MakeMemory("device-state", kStateBytes);
    if (!state.ok()) return state.status();
    fds_[{Kind::kState, device, 0}] = *std::move(state);
  }
  const Boot& boot = description.spec().boot();
  const std::tuple<Kind, const char*, const std::string*> files[] = {
      {Kind::kKernel, "boot.kernel", &boot.kernel()},
      {Kind::kInitrd, "boot.initrd", &boot.initrd()},
      {Kind::kFirmware, "boot.firmware_image", &boot.firmware_image()}};
  absl::Status errors;
  for (const auto& [kind, field, path] : files) {
    if (path->empty()) continue;
    absl::StatusOr<Fd> copy =
        SealedCopyOf(description, field, *path, plan.ram_bytes);
    if (!copy.ok()) {
      errors = Join(std::move(errors), copy.status());
      continue;
    }
    fds_[{kind, -1, 0}] = *std::move(copy);
  }
  return errors;
}

absl::Status Resources::MakePair(int type, const Resource& one,
                                 const Resource& other) {
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) {
    return Failed("socketpair");
  }
  fds_[KeyOf(one)] = Fd(ends[0]);
  fds_[KeyOf(other)] = Fd(ends[1]);
  return absl::OkStatus();
}

void Resources::Widen(const Resource& resource) {
  // Half of what the kernel counts: some 10,000 frames.
  constexpr int kBytes = 4 << 20;
  const int fd = fds_[KeyOf(resource)].get();
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kBytes, sizeof(kBytes)) !=
      0) {
    // Not root: as much as net.core.wmem_max allows.
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBytes, sizeof(kBytes));
  }
}

absl::Status Resources::MakeStreams(const Plan& plan) {
  absl::Status status;
  for (size_t i = 0; i < plan.processes.size() && status.ok(); ++i) {
    const int index = static_cast<int>(i);
    const bool is_qemu = plan.processes[i].role == PlannedProcess::Role::kQemu;
    if (IsHeld(plan, {Kind::kControl, -1, index})) {
      status = MakePair(SOCK_SEQPACKET, {Kind::kControl, -1, index},
                        {Kind::kControlLauncher, -1, index});
    } else if (is_qemu) {
      status = MakePair(SOCK_STREAM, {Kind::kSerial}, {Kind::kSerialUser});
      if (!status.ok()) return status;
      status = MakePair(SOCK_STREAM, {Kind::kMonitor}, {Kind::kMonitorUser});
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Failed("pipe");
    fds_[{Kind::kLogReader, -1, index}] = Fd(ends[0]);
    fds_[{Kind::kLog, -1, index}] = Fd(ends[1]);
    // A full pipe costs a service lines, not time.
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 ||
        (!is_qemu && fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0)) {
      return Failed("F_SETFL");
    }
  }
  for (size_t d = 0; d < plan.devices.size() && status.ok(); ++d) {
    const int device = static_cast<int>(d);
    if (IsHeld(plan, {Kind::kChannelService, device})) {
      status = MakePair(SOCK_SEQPACKET, {Kind::kChannelService, device},
                        {Kind::kChannelShim, device});
      // A service that the host does not let run for a while (nobody's fault)
      // has its stores waiting there, and QEMU does not.
      if (status.ok()) Widen({Kind::kChannelShim, device});
    }
    if (status.ok() && IsHeld(plan, {Kind::kProxyUser, device})) {
      status = MakePair(SOCK_STREAM, {Kind::kProxyServer, device},
                        {Kind::kProxyUser, device});
    }
  }
  for (const PlannedFd& fd : plan.processes.back().fds) {
    if (fd.resource.kind != Kind::kKvm) continue;
    fds_[KeyOf(fd.resource)] = Fd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!fds_[KeyOf(fd.resource)].valid()) return Failed("/dev/kvm");
  }
  return status;
}

absl::Status Resources::MakeSockets(const Plan& plan,
                                    const std::string& runtime_dir) {
  if (!runtime_dir.empty()) {
    absl::Status status = ClaimDirectory(runtime_dir);
    for (size_t d = 0; status.ok() && d < plan.devices.size(); ++d) {
      const std::string path =
          absl::StrCat(runtime_dir, "/", plan.devices[d].id, ".sock");
      (void)unlink(path.c_str());  // a killed launcher's
      status = MakeSocket(static_cast<int>(d), path);
      if (status.ok()) paths_.push_back(path);
    }
    if (!status.ok()) return status;
    // QEMU must map this very memfd; it finds it through us.
    const std::string ram = runtime_dir + "/ram";
    (void)unlink(ram.c_str());
    const std::string target = absl::StrCat("/proc/", getpid(), "/fd/",
                                            fds_.at({Kind::kRam, -1, 0}).get());
    if (symlink(target.c_str(), ram.c_str()) != 0) return Failed(ram);
    paths_.push_back(ram);
    return absl::OkStatus();
  }
  // A private directory for as long as it takes to bind; QEMU gets each socket
  // as an O_PATH fd, and no name remains.
  if (plan.frontend == X_PCI_PROXY) return absl::OkStatus();  // no names at all
  std::string directory = "/tmp/bulkhead-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return Failed(directory);
  absl::Status status;
  for (size_t d = 0; status.ok() && d < plan.devices.size(); ++d) {
    const std::string path = absl::StrCat(directory, "/", plan.devices[d].id);
    status = MakeSocket(static_cast<int>(d), path);
    if (!status.ok()) break;
    // The jailed QEMU has another id; the directory keeps others out.
    if (chmod(path.c_str(), 0666) != 0) status = Failed("chmod");
    Fd socket(open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!socket.valid()) status = Failed(path);
    fds_[{Kind::kSocket, static_cast<int>(d), 0}] = std::move(socket);
    (void)unlink(path.c_str());
  }
  (void)rmdir(directory.c_str());
  return status;
}

absl::StatusOr<bool> Resources::AwaitProxyUsers(const Plan& plan) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  const Fd signals(signalfd(-1, &set, SFD_CLOEXEC));
  if (!signals.valid()) return Failed("signalfd");
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const int device = static_cast<int>(d);
    if (!IsHeld(plan, {Kind::kProxyServer, device}) ||
        IsHeld(plan, {Kind::kProxyUser, device})) {
      continue;
    }
    const int listener = Get({Kind::kListener, device});
    pollfd ready[] = {{.fd = signals.get(), .events = POLLIN, .revents = 0},
                      {.fd = listener, .events = POLLIN, .revents = 0}};
    while (poll(ready, 2, -1) < 0) {
      if (errno != EINTR) return Failed("poll");
    }
    if (ready[0].revents != 0) return false;
    Fd connection(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) return Failed("accept");
    fds_[{Kind::kProxyServer, device, 0}] = std::move(connection);
    // It serves this one, and nobody else may think that he is served.
    fds_.erase({Kind::kListener, device, 0});
  }
  return true;
}

absl::Status Resources::ClaimDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0700) == 0) {
    paths_.push_back(directory);
  } else if (errno != EEXIST) {
    return DirectoryError(directory, ErrnoText(errno),
                          "name a directory that you may write to");
  }
  // Whoever else may write there could put a socket of his own in QEMU's way.
  // So could who owns a link to it, once it has been looked at.
  const size_t end = directory.find_last_not_of('/');
  struct stat status;
  if (lstat(directory.substr(0, end + 1).c_str(), &status) != 0) {
    return DirectoryError(directory, ErrnoText(errno),
                          "name a directory that you may write to");
  }
  if (!S_ISDIR(status.st_mode)) {
    return DirectoryError(directory,
                          S_ISLNK(status.st_mode) ? "it is a symbolic link"
                                                  : "it is no directory",
                          "name the directory itself");
  }
  if (status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
    return DirectoryError(directory, "it belongs to others, or they may write",
                          "chmod go-w DIR, or name one that does not exist");
  }
  const std::string lock = directory + "/lock";
  directory_lock_ =
      Fd(open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!directory_lock_.valid()) {
    return DirectoryError(directory, ErrnoText(errno),
                          "name a directory that you may write to");
  }
  if (flock(directory_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return DirectoryError(directory, "another VM is using it",
                          "give each VM a directory of its own");
  }
  paths_.push_back(lock);
  return absl::OkStatus();
}

absl::Status Resources::MakeSocket(int device, const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return DirectoryError(path, "the socket's path is too long",
                          "at most 107 bytes with the device's id");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return Failed("socket");
  const mode_t mask = umask(0177);
  const int bound = bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                         sizeof(address));
  umask(mask);
  if (bound != 0) return Failed(path);
  if (listen(listener.get(), 1) != 0) {
    const absl::Status status = Failed("listen");
    (void)unlink(path.c_str());
    return status;
  }
  fds_[{Kind::kListener, device, 0}] = std::move(listener);
  return absl::OkStatus();
}

int Resources::Get(const Resource& resource) const {
  if (resource.kind == Kind::kUser) return resource.index;
  const auto found = fds_.find(KeyOf(resource));
  return found == fds_.end() ? -1 : found->second.get();
}

// See launcher/user_socket.h. Anybody on the host may have taken the name: that
// must not keep a VM from running, nor pass unseen.
std::string Resources::MakeUserSocket(const std::string& vm) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name =
      absl::StrCat("bulkhead/", vm.substr(0, 64), "/", getpid());
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  Fd listener(
      socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      listen(listener.get(), 4) == 0) {
    user_socket_ = std::move(listener);
    return "";
  }
  const int error = errno;
  return absl::StrCat("@", name, ": ",
                      error == EADDRINUSE
                          ? "another process has taken this name"
                          : ErrnoText(error),
                      "; //policy:audit and //tools/grow_disk cannot reach "
                      "this VM (started again, it has another name)");
}

bool Resources::KeepOverExec() const {
  if (user_socket_.valid() && fcntl(user_socket_.get(), F_SETFD, 0) != 0) {
    return false;
  }
  for (const auto& [key, fd] : fds_) {
    const Kind kind = std::get<Kind>(key);
    // Everything else is held by those who need it. A directory shows the RAM
    // as a file of the launcher's.
    const bool needed = kind == Kind::kControlLauncher ||
                        (kind == Kind::kRam && directory_lock_.valid());
    if (needed && fd.valid() && fcntl(fd.get(), F_SETFD, 0) != 0) return false;
  }
  return !directory_lock_.valid() ||
         fcntl(directory_lock_.get(), F_SETFD, 0) == 0;
}

void Resources::Abandon() {
  fds_.clear();
  user_socket_.Close();
  directory_lock_.Close();
  paths_.clear();
}

}  // namespace bulkhead::vm

#include "vm/kvm_access.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace bulkhead::vm {
namespace {

constexpr char kKvm[] = "/dev/kvm";
// -accel kvm,device=PATH
constexpr std::pair<int, int> kKvmFdSince = {8, 2};

bool Configure(int filesystem, const char* key, const char* value) {
  return fsconfig(filesystem, FSCONFIG_SET_STRING, key, value, 0) == 0;
}

absl::Status NotInItsJail(const Qemu& qemu, const std::string& why) {
  return UserError{
      .exit_code = kExitMissingFeature,
      .id = "BH-Q307",
      .what = absl::StrCat("QEMU ", qemu.version,
                           " opens /dev/kvm by itself, and in its jail it may "
                           "not: ",
                           why),
      .fix =
          "--qemu=PATH to QEMU >= 8.2, which takes it from us, or start the VM "
          "as an ordinary user of the group kvm, or --accel=tcg"}
      .ToStatus();
}

}  // namespace

std::optional<Fd> MakeKvmFolder(uid_t owner) {
  struct stat kvm;
  if (stat(kKvm, &kvm) != 0) return std::nullopt;
  const Fd filesystem(fsopen("tmpfs", FSOPEN_CLOEXEC));
  // Room for the folder and the node.
  if (!filesystem.valid() || !Configure(filesystem.get(), "mode", "0555") ||
      !Configure(filesystem.get(), "size", "4k") ||
      !Configure(filesystem.get(), "nr_inodes", "2") ||
      fsconfig(filesystem.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) !=
          0) {
    return std::nullopt;
  }
  Fd folder(fsmount(filesystem.get(), FSMOUNT_CLOEXEC,
                    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  if (!folder.valid() ||
      mknodat(folder.get(), "kvm", S_IFCHR | 0600, kvm.st_rdev) != 0 ||
      fchownat(folder.get(), "kvm", owner, owner, AT_SYMLINK_NOFOLLOW) != 0) {
    return std::nullopt;
  }
  // A container may let us make what nobody in it may open.
  const Fd opened(openat(folder.get(), "kvm", O_RDWR | O_CLOEXEC));
  mount_attr read_only = {};
  read_only.attr_set = MOUNT_ATTR_RDONLY;
  if (!opened.valid() || mount_setattr(folder.get(), "", AT_EMPTY_PATH,
                                       &read_only, sizeof(read_only)) != 0) {
    return std::nullopt;
  }
  return folder;
}

absl::StatusOr<KvmAccess> FindKvmAccess(const Qemu& qemu, uid_t jail_id) {
  KvmAccess kvm;
  if (qemu.release >= kKvmFdSince) return kvm;
  kvm.takes_fd = false;
  std::string why;
  if (geteuid() == 0) {
    if (std::optional<Fd> folder = MakeKvmFolder(jail_id)) {
      kvm.folder = *std::move(folder);
      kvm.bind = {.source = kKvm,
                  .target = "/dev",
                  .writable = true,
                  .mount_fd = kvm.folder.get()};
      return kvm;
    }
    why = absl::StrCat("a device node for its id cannot be made here (",
                       ErrnoText(errno), ")");
  }
  // The host's own, for who is an ordinary user outside, too.
  struct stat status;
  const bool may =
      geteuid() != 0 ? access(kKvm, R_OK | W_OK) == 0
                     : stat(kKvm, &status) == 0 && (status.st_mode & 06) == 06;
  if (!may) {
    return NotInItsJail(qemu, why.empty() ? ErrnoText(errno) : why);
  }
  kvm.bind = {.source = kKvm, .target = kKvm, .writable = true};
  return kvm;
}

}  // namespace bulkhead::vm

#include "sandbox/host_advice.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>

namespace bulkhead::sandbox {
namespace {

// The number in a file of /proc/sys, or `otherwise` when there is no such file.
long Setting(const char* path, long otherwise) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return otherwise;
  char text[32] = {};
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  return size > 0 ? std::strtol(text, nullptr, 10) : otherwise;
}

bool InContainer() {
  return access("/.dockerenv", F_OK) == 0 ||
         access("/run/.containerenv", F_OK) == 0 ||
         access("/run/systemd/container", F_OK) == 0;
}

bool AppArmorRestricts() {
  return Setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) ==
         1;
}

constexpr char kAppArmor[] =
    "kernel.apparmor_restrict_unprivileged_userns is 1 on this host: install "
    "an "
    "AppArmor profile for the launcher with the rule 'userns,', or run 'sudo "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0', or start the "
    "launcher as root";

}  // namespace

std::string WhyNoNamespaces(int error) {
  const bool root = geteuid() == 0;
  if (error == ENOSYS) {
    return InContainer()
               ? "the container's seccomp profile hides clone3: start the "
                 "container with a newer runtime, or with '--security-opt "
                 "seccomp=unconfined'"
               : "this kernel has no clone3 (Linux 5.5 and later do)";
  }
  if (error == ENOSPC || error == EUSERS) {
    if (Setting("/proc/sys/user/max_user_namespaces", 1) == 0) {
      return "user.max_user_namespaces is 0 on this host: run 'sudo sysctl "
             "user.max_user_namespaces=10000'";
    }
    return "a limit on namespaces is reached (user.max_*_namespaces), or they "
           "are nested too deep";
  }
  if (error == EINVAL) {
    return "this kernel lacks a kind of namespace (CONFIG_USER_NS, "
           "CONFIG_TIME_NS, ... must be set)";
  }
  if (error == EAGAIN || error == ENOMEM) {
    return "no memory, or too many processes for this user (ulimit -u)";
  }
  if (error != EPERM && error != EACCES) return "";
  if (!root && Setting("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0) {
    return "kernel.unprivileged_userns_clone is 0 on this host: run 'sudo "
           "sysctl kernel.unprivileged_userns_clone=1', or start the launcher "
           "as root";
  }
  if (!root && AppArmorRestricts()) return kAppArmor;
  if (root && prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0) {
    return "root lacks CAP_SYS_ADMIN here (a container?): grant it "
           "('--cap-add=SYS_ADMIN --security-opt seccomp=unconfined "
           "--security-opt apparmor=unconfined'), or start the launcher as an "
           "ordinary user where user namespaces are allowed";
  }
  if (InContainer()) {
    return "the container's seccomp or AppArmor profile forbids namespaces: "
           "start it with '--security-opt seccomp=unconfined --security-opt "
           "apparmor=unconfined'";
  }
  return "a security module or a chroot forbids user namespaces here";
}

std::string WhyNoPrivileges(int error) {
  if (error != EPERM && error != EACCES) return "";
  if (geteuid() != 0 && AppArmorRestricts()) return kAppArmor;
  if (InContainer()) {
    return "the container's profile allows the namespaces but not what a jail "
           "does inside: start it with '--security-opt apparmor=unconfined "
           "--security-opt seccomp=unconfined --security-opt "
           "systempaths=unconfined'";
  }
  return "";
}

}  // namespace bulkhead::sandbox

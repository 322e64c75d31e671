#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace bulkhead::sandbox {
namespace {

// linux/landlock.h as of ABI 7; the headers we build with may be older.
struct RulesetAttr {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};
struct PathBeneathAttr {
  uint64_t allowed_access;
  int32_t parent_fd;
} __attribute__((packed));

constexpr uint64_t kExecute = 1 << 0;
constexpr uint64_t kReadFile = 1 << 2;
constexpr uint64_t kReadDir = 1 << 3;
constexpr unsigned kVersionFlag = 1;
constexpr int kPathBeneath = 1;

// All file system rights that an ABI knows.
uint64_t FileRights(long abi) {
  uint64_t rights = (1 << 13) - 1;
  if (abi >= 2) rights |= 1 << 13;  // REFER
  if (abi >= 3) rights |= 1 << 14;  // TRUNCATE
  if (abi >= 5) rights |= 1 << 15;  // IOCTL_DEV
  return rights;
}

// What can be done with a single file, as opposed to a folder.
constexpr uint64_t kRightsOfFiles =
    kExecute | 1 << 1 | kReadFile | 1 << 14 | 1 << 15;

void Allow(int ruleset, int fd, uint64_t rights, ChildIo& io) {
  const PathBeneathAttr rule = {.allowed_access = rights, .parent_fd = fd};
  // A memfd is outside every file system and needs no rule (EBADFD).
  if (syscall(SYS_landlock_add_rule, ruleset, kPathBeneath, &rule, 0) != 0 &&
      errno != EBADFD) {
    io.Fail(Step::kLandlock);
  }
}

void AllowBeneath(int ruleset, const std::string& path, uint64_t rights,
                  bool folder, ChildIo& io) {
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) io.Fail(Step::kLandlock);
  Allow(ruleset, fd, folder ? rights : rights & kRightsOfFiles, io);
  close(fd);
}

bool IsFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

}  // namespace

void ForbidFiles(const JailSpec& spec, ChildIo& io) {
  const long abi =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersionFlag);
  if (abi < 0) {
    io.Unavailable(Step::kLandlock, errno);
    return;
  }
  const uint64_t all = FileRights(abi);
  const RulesetAttr attr = {
      .handled_access_fs = all,
      .handled_access_net = abi >= 4 ? 3U : 0U,  // bind and connect by TCP
      .scoped = abi >= 6 ? 3U : 0U,              // abstract sockets and signals
  };
  const size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const int ruleset =
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, size, 0));
  if (ruleset < 0) io.Fail(Step::kLandlock);

  Allow(ruleset, kProgramFd, kExecute | kReadFile, io);
  if (!spec.policy->empty_root) {
    AllowBeneath(ruleset, "/", kExecute | kReadFile | kReadDir, true, io);
    for (const std::string& path : spec.scratch) {
      AllowBeneath(ruleset, path, all & ~kExecute, true, io);
    }
    for (const Bind& bind : spec.binds) {
      if (!bind.writable) continue;
      AllowBeneath(ruleset, bind.target, all & ~kExecute, IsFolder(bind.target),
                   io);
    }
  }
  if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
    io.Fail(Step::kLandlock);
  }
  close(ruleset);
}

}  // namespace bulkhead::sandbox

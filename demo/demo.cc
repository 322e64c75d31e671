#include "demo/demo.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "vm/runfiles.h"

namespace bulkhead::demo {
namespace {

// qcow2, version 3 (QEMU docs/interop/qcow2.txt): a header, a refcount table,
// one refcount block and an L1 table of zeroes, one cluster each.
constexpr uint64_t kClusterBits = 16;
constexpr uint64_t kCluster = uint64_t{1} << kClusterBits;
constexpr uint64_t kClustersUsed = 4;
constexpr uint64_t kBytesPerL1Entry = kCluster / 8 * kCluster;

void PutBigEndian(std::vector<unsigned char>* image, size_t at, uint64_t value,
                  size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    (*image)[at + i] =
        static_cast<unsigned char>(value >> (8 * (bytes - 1 - i)));
  }
}

std::vector<unsigned char> EmptyQcow2(uint64_t bytes) {
  std::vector<unsigned char> image(kClustersUsed * kCluster);
  PutBigEndian(&image, 0, 0x514649fb, 4);  // magic
  PutBigEndian(&image, 4, 3, 4);           // version
  PutBigEndian(&image, 20, kClusterBits, 4);
  PutBigEndian(&image, 24, bytes, 8);  // virtual size
  PutBigEndian(&image, 36, (bytes + kBytesPerL1Entry - 1) / kBytesPerL1Entry,
               4);                            // L1 entries
  PutBigEndian(&image, 40, 3 * kCluster, 8);  // L1 table
  PutBigEndian(&image, 48, 1 * kCluster, 8);  // refcount table
  PutBigEndian(&image, 56, 1, 4);             // its clusters
  PutBigEndian(&image, 96, 4, 4);             // refcount_order: 16 bits
  PutBigEndian(&image, 100, 104, 4);          // header length
  PutBigEndian(&image, kCluster, 2 * kCluster, 8);
  for (uint64_t i = 0; i < kClustersUsed; ++i) {
    PutBigEndian(&image, 2 * kCluster + 2 * i, 1, 2);
  }
  return image;
}

absl::Status DiskError(const std::string& path) {
  return UserError{
      .exit_code = errno == EACCES ? kExitPermission : kExitBadConfig,
      .id = "BH-C110",
      .what = absl::StrCat("cannot make the demo's disk ", Escape(path), ": ",
                           ErrnoText(errno)),
      .fix =
          "set XDG_STATE_HOME to a directory that you may "
          "write to"}
      .ToStatus();
}

}  // namespace

std::string DemoDiskPath() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  const std::string base =
      state != nullptr && state[0] == '/'
          ? std::string(state)
          : absl::StrCat(home != nullptr ? home : "/tmp", "/.local/state");
  return base + "/bulkhead/demo/disk.qcow2";
}

absl::Status MakeEmptyQcow2(const std::string& path, uint64_t bytes) {
  if (access(path.c_str(), F_OK) == 0) return absl::OkStatus();
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    if (mkdir(path.substr(0, slash).c_str(), 0700) != 0 && errno != EEXIST) {
      return DiskError(path);
    }
  }
  // Under another name until it is whole.
  const std::string partial = absl::StrCat(path, ".", getpid());
  const std::vector<unsigned char> image = EmptyQcow2(bytes);
  Fd file(open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid() ||
      write(file.get(), image.data(), image.size()) !=
          static_cast<ssize_t>(image.size()) ||
      rename(partial.c_str(), path.c_str()) != 0) {
    absl::Status status = DiskError(path);
    (void)unlink(partial.c_str());
    return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> MakeScratchDisk(uint64_t bytes) {
  Fd file(open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  // Not every file system can.
  if (!file.valid()) file = Fd(memfd_create("disk", MFD_CLOEXEC));
  const std::vector<unsigned char> image = EmptyQcow2(bytes);
  if (!file.valid() || write(file.get(), image.data(), image.size()) !=
                           static_cast<ssize_t>(image.size())) {
    return DiskError("/var/tmp");
  }
  // Nameless, so nobody finds it; the jailed tools, which have other ids, open
  // their fd once more.
  (void)fchmod(file.get(), 0644);
  return file;
}

absl::Status DescribeDemo(const std::map<std::string, std::string>& paths,
                          const std::string& disk, bool check,
                          vm::Description* description) {
  const auto kernel = paths.find("guest_kernel");
  const std::string initrd = vm::FindRunfile("tools/guest/initrd.cpio");
  struct stat packed = {};
  if (kernel == paths.end() || kernel->second.empty() || initrd.empty() ||
      stat(initrd.c_str(), &packed) != 0 || packed.st_size == 0) {
    return UserError{.exit_code = kExitMissingFeature,
                     .id = "BH-S205",
                     .what = "the demo guest has not been set up",
                     .fix =
                         "./bazelw run //launcher:vm sets it up; or "
                         "describe a VM of your own (--help)"}
        .ToStatus();
  }
  VmSpec& spec = description->spec();
  spec.set_name(check ? "check" : "demo");
  // A demonstration may run on a busy host; the guest waits rather than loses.
  spec.set_access_deadline_ms(2000);
  spec.mutable_boot()->set_kernel(kernel->second);
  spec.mutable_boot()->set_initrd(initrd);
  // settle: the driver's pause after a bus reset, which real disks need.
  spec.mutable_boot()->set_cmdline(
      absl::StrCat("console=ttyS0 quiet sym53c8xx.settle=0",
                   check ? " bulkhead.check" : ""));
  VmDevice* device = spec.add_devices();
  device->set_id("lsi0");
  ScsiTarget* target = device->mutable_lsi53c895a()->add_target();
  target->mutable_disk()->set_image(disk);
  target->mutable_disk()->set_format(Disk::QCOW2);
  return absl::OkStatus();
}

}  // namespace bulkhead::demo

#include "vm/image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "vm/image_lock.h"

namespace bulkhead::vm {
namespace {

constexpr uint64_t kSmallestQcow2 = 48;  // bytes of a version 1 header
constexpr uint64_t kLargestKeyFile = 17;

std::string FieldOf(const ImageUse& use) {
  return use.field + (use.is_key ? ".key_file" : ".image");
}

absl::Status OpenError(const Description& description, const ImageUse& use,
                       int error) {
  const bool permission = error == EACCES || error == EPERM || error == EROFS;
  return description.ErrorAt(
      FieldOf(use), permission ? kExitPermission : kExitBadConfig,
      permission ? "BH-C110" : "BH-C104",
      absl::StrCat(use.path, ": ", ErrnoText(error)),
      permission && !use.read_only
          ? "make the file writable for you, or set access: READ_ONLY "
            "(readonly=on)"
      : permission ? "make the file readable for you"
                   : "give an absolute path, or one relative to the "
                     "description (on the command line: to where you stand)");
}

// The size of a file or a block device, or an error that names what it is.
absl::StatusOr<uint64_t> SizeOf(const Description& description,
                                const ImageUse& use, int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return OpenError(description, use, errno);
  if (S_ISREG(status.st_mode)) return status.st_size;
  uint64_t bytes = 0;
  if (S_ISBLK(status.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) == 0) {
    return bytes;
  }
  return description.ErrorAt(
      FieldOf(use), kExitBadConfig, "BH-C106",
      absl::StrCat(use.path, " is a ",
                   S_ISDIR(status.st_mode) ? "directory" : "special file",
                   use.is_key ? ", not a key file" : ", not an image"),
      use.is_key ? "name a file" : "name an image file or a block device");
}

// By the magic and the version behind it; RAW: none of them.
ImageFormat FormatOfMagic(int fd) {
  constexpr unsigned char kMagic[] = {'Q', 'F', 'I', 0xfb, 0, 0, 0};
  unsigned char head[8];
  if (pread(fd, head, sizeof(head), 0) != sizeof(head) ||
      std::memcmp(head, kMagic, sizeof(kMagic)) != 0) {
    return RAW;
  }
  return head[7] == 1 ? QCOW : head[7] == 2 || head[7] == 3 ? QCOW2 : RAW;
}

absl::StatusOr<ImageFormat> FormatOf(const Description& description,
                                     const ImageUse& use, int fd,
                                     uint64_t size) {
  const ImageFormat found = FormatOfMagic(fd);
  const ImageFormat wanted = use.format == Disk::QCOW ? QCOW : QCOW2;
  if ((use.format == Disk::QCOW2 || use.format == Disk::QCOW) &&
      found != wanted) {
    const char* name = wanted == QCOW ? "qcow (version 1)" : "qcow2";
    return description.ErrorAt(
        use.field + ".image", kExitBadConfig,
        size < kSmallestQcow2 ? "BH-C107" : "BH-C106",
        size < kSmallestQcow2
            ? absl::StrCat(use.path, " is too small for a ", name,
                           " image: ", size, " bytes")
            : absl::StrCat(use.path, " is not a ", name, " image"),
        "name another file, or its format; qemu-img info FILE tells it");
  }
  if (found != RAW && use.format != Disk::RAW) return found;
  if (use.format == Disk::AUTO && !use.cdrom) {
    return description.ErrorAt(
        use.field + ".format", kExitBadConfig, "BH-C108",
        absl::StrCat(use.path,
                     " is not a qcow2 image, and raw is never "
                     "guessed: a guest can write any magic into a "
                     "raw disk"),
        "format: RAW (format=raw), if that is what it is");
  }
  if (size < use.block_size) {
    return description.ErrorAt(
        use.field + ".image", kExitBadConfig, "BH-C107",
        absl::StrCat(use.path, " is too small: ", size,
                     " bytes, and a block "
                     "has ",
                     use.block_size),
        "truncate -s 1G FILE makes an empty disk of 1 GiB");
  }
  return RAW;
}

// A big-endian number of a header; 0 where there is none.
uint64_t NumberAt(int fd, int bytes, off_t offset) {
  unsigned char digits[8] = {};
  if (pread(fd, digits, bytes, offset) != bytes) return 0;
  uint64_t number = 0;
  for (int i = 0; i < bytes; ++i) number = number << 8 | digits[i];
  return number;
}

// What O_DIRECT demands of this file; 0: it cannot be had.
uint32_t DirectAlignment(int fd) {
  struct stat status;
  int sector = 0;
  if (fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) &&
      ioctl(fd, BLKSSZGET, &sector) == 0) {
    return static_cast<uint32_t>(sector);
  }
#ifdef STATX_DIOALIGN
  struct statx info;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    return info.stx_dio_offset_align == 0
               ? 0
               : std::max({info.stx_dio_mem_align, info.stx_dio_offset_align,
                           uint32_t{512}});
  }
#endif
  return 4096;  // an older kernel does not tell; enough for all disks
}

absl::Status MakeDirect(const Description& description, const ImageUse& use,
                        OpenedImage* image) {
  const uint32_t alignment = DirectAlignment(image->fd.get());
  const int flags = fcntl(image->fd.get(), F_GETFL);
  if (alignment == 0 || flags < 0 ||
      fcntl(image->fd.get(), F_SETFL, flags | O_DIRECT) != 0) {
    return description.ErrorAt(
        use.field + ".direct", kExitBadConfig, "BH-C103",
        absl::StrCat("the file system of ", use.path, " has no direct I/O"),
        "leave direct out, or put the image elsewhere");
  }
  if (alignment > use.block_size && use.parent < 0) {
    return description.ErrorAt(
        use.field + ".direct", kExitBadConfig, "BH-C103",
        absl::StrCat("direct I/O on ", use.path, " takes blocks of ", alignment,
                     " bytes, and the disk has blocks of ", use.block_size),
        absl::StrCat("block_size: ", alignment, ", or leave direct out"));
  }
  image->direct_alignment_bytes = alignment;
  return absl::OkStatus();
}

// Whether this process has the file of `fd` open a second time: the lock that
// is in the way is its own.
bool IsOpenTwice(int fd) {
  struct stat wanted;
  if (fstat(fd, &wanted) != 0) return false;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int other = std::atoi(entry.path().filename().c_str());
    struct stat status;
    if (other != fd && fstat(other, &status) == 0 &&
        status.st_dev == wanted.st_dev && status.st_ino == wanted.st_ino) {
      return true;
    }
  }
  return false;
}

}  // namespace

uint64_t MostImageBytes(int fd, ImageFormat format, uint64_t size_bytes) {
  constexpr uint64_t kSectorBytes = 4096;
  const uint64_t whole =
      (size_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  if (format != QCOW2) return whole;
  // Where the version 2 and 3 headers have them.
  const uint64_t cluster_bits = NumberAt(fd, 4, 20);
  const uint64_t disk_bytes = NumberAt(fd, 8, 24);
  constexpr uint64_t kLargestDisk = uint64_t{1} << 56;
  if (cluster_bits < 9 || cluster_bits > 21 || disk_bytes > kLargestDisk) {
    return whole;  // no image that a service takes
  }
  // A cluster's entry in an L2 table has up to 16 bytes, its count up to 8; as
  // much again is left for the tables' own counts and the tables above them.
  constexpr uint64_t kTableBytes = 32;
  // Clusters that are freed while others take their place, and those that wait
  // for the next writes.
  constexpr uint64_t kInFlightBytes = 64 << 20;
  return whole + disk_bytes + ((disk_bytes >> cluster_bits) + 1) * kTableBytes +
         kInFlightBytes;
}

absl::StatusOr<OpenedImage> OpenImage(const Description& description,
                                      const ImageUse& use) {
  OpenedImage image;
  // O_NONBLOCK: a FIFO in the image's place must not hold us up. It has no
  // effect on files and block devices.
  image.fd = Fd(open(
      description.Resolve(use.path).c_str(),
      (use.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!image.fd.valid()) {
    if (errno == EISDIR) errno = 0;
    if (errno != 0) return OpenError(description, use, errno);
    return description.ErrorAt(FieldOf(use), kExitBadConfig, "BH-C106",
                               use.path + " is a directory, not an image",
                               "name an image file or a block device");
  }
  const absl::StatusOr<uint64_t> size =
      SizeOf(description, use, image.fd.get());
  if (!size.ok()) return size.status();
  if (use.is_key) {
    // A password is read once, whole; it is nobody's to lock.
    if (*size == 0 || *size > kLargestKeyFile) {
      return description.ErrorAt(
          FieldOf(use), kExitBadConfig, "BH-C107",
          absl::StrCat(use.path, " has ", *size, " bytes"),
          "a password of 1 to 16 bytes, and perhaps a newline");
    }
    return image;
  }
  const absl::StatusOr<ImageFormat> format =
      FormatOf(description, use, image.fd.get(), *size);
  if (!format.ok()) return format.status();
  image.format = *format;
  if (!use.read_only) {
    image.most_bytes = use.opaque
                           ? ~uint64_t{0}
                           : MostImageBytes(image.fd.get(), *format, *size);
  }

  const int error = LockImage(image.fd.get(), !use.read_only);
  if ((error == EAGAIN || error == EACCES) && IsOpenTwice(image.fd.get())) {
    return description.ErrorAt(
        use.field + ".image", kExitBadConfig, "BH-C105",
        absl::StrCat(use.path, " is named twice, and not read-only both times"),
        "an image of its own for each disk");
  }
  if (error == EAGAIN || error == EACCES) {
    return description.ErrorAt(
        use.field + ".image", kExitBadConfig, "BH-C105",
        absl::StrCat(use.path, " is in use by another program"),
        use.read_only ? "end what writes to it (fuser -v FILE shows it)"
                      : "end what has it open (fuser -v FILE shows it), or "
                        "give each VM an overlay of its own");
  }
  if (error != 0 && error != EINVAL && error != ENOLCK && error != EOPNOTSUPP) {
    return OpenError(description, use, error);
  }
  const int flags = fcntl(image.fd.get(), F_GETFL);
  if (flags < 0 || fcntl(image.fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return OpenError(description, use, errno);
  }
  if (use.direct) {
    absl::Status status = MakeDirect(description, use, &image);
    if (!status.ok()) return status;
  }
  return image;
}

}  // namespace bulkhead::vm

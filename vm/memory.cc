#include "vm/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "sandbox/memfd.h"

namespace bulkhead::vm {
namespace {

absl::Status Failed(const char* call, const std::string& name) {
  return absl::InternalError(
      absl::StrCat(call, " for ", name, ": ", ErrnoText(errno)));
}

absl::StatusOr<Fd> Create(const std::string& name) {
  Fd fd(sandbox::OpenMemfd(name.c_str()));
  if (!fd.valid()) return Failed("memfd_create", name);
  return fd;
}

}  // namespace

absl::StatusOr<Fd> MakeMemory(const std::string& name, uint64_t bytes) {
  absl::StatusOr<Fd> fd = Create(name);
  if (!fd.ok()) return fd;
  if (ftruncate(fd->get(), static_cast<off_t>(bytes)) != 0) {
    return Failed("ftruncate", name);
  }
  if (fcntl(fd->get(), F_ADD_SEALS,
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Failed("F_ADD_SEALS", name);
  }
  return fd;
}

absl::StatusOr<Fd> MakeSealedCopy(const std::string& name, int file) {
  absl::StatusOr<Fd> fd = Create(name);
  if (!fd.ok()) return fd;
  constexpr size_t kPiece = 1 << 20;
  for (;;) {
    const ssize_t copied = sendfile(fd->get(), file, nullptr, kPiece);
    if (copied == 0) break;
    if (copied < 0) return Failed("sendfile", name);
  }
  if (fcntl(fd->get(), F_ADD_SEALS,
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return Failed("F_ADD_SEALS", name);
  }
  // The seal forbids to write; an fd that may not says so to auditors as well.
  const std::string self = absl::StrCat("/proc/self/fd/", fd->get());
  Fd reader(open(self.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader.valid()) return Failed("open", name);
  return reader;
}

}  // namespace bulkhead::vm

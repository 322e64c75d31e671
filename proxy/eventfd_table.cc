#include "proxy/eventfd_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace bulkhead::proxy {

EventfdTable::EventfdTable() {
  vectors_[INTX].resize(1);
  vectors_[MSI].resize(kMaxMsiVectors);
  vectors_[MSIX].resize(kMaxMsixVectors);
}

absl::Span<const Fd> EventfdTable::Vectors(InterruptKind kind) const {
  if (!InterruptKind_IsValid(kind)) return {};
  return vectors_[kind];
}

void EventfdTable::Set(InterruptKind kind, uint32_t vector, Fd fd) {
  vectors_[kind].at(vector) = std::move(fd);
}

void EventfdTable::Raise(InterruptKind kind, uint32_t vector) const {
  const absl::Span<const Fd> vectors = Vectors(kind);
  if (vector < vectors.size() && vectors[vector].valid()) {
    RaiseEventfd(vectors[vector].get());
  }
}

bool IsEventfd(const Fd& fd) {
  struct stat status;
  if (fstatat(fd.get(), "", &status, AT_EMPTY_PATH) != 0 ||
      (status.st_mode & S_IFMT) != 0) {
    return false;
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

void RaiseEventfd(int fd) {
  const uint64_t one = 1;
  // A full counter means that QEMU has been told often enough.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

}  // namespace bulkhead::proxy

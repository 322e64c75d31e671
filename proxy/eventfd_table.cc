#include "proxy/eventfd_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bulkhead::proxy {

EventfdTable::EventfdTable() {
  msi_.fill(-1);
  msix_.fill(-1);
}

EventfdTable::~EventfdTable() {
  for (InterruptKind kind : {INTX, MSI, MSIX}) {
    for (int fd : Vectors(kind)) {
      if (fd >= 0) close(fd);
    }
  }
}

absl::Span<int> EventfdTable::Mutable(InterruptKind kind) {
  switch (kind) {
    case INTX:
      return {&intx_, 1};
    case MSI:
      return absl::MakeSpan(msi_);
    case MSIX:
      return absl::MakeSpan(msix_);
    default:
      return {};
  }
}

absl::Span<const int> EventfdTable::Vectors(InterruptKind kind) const {
  return const_cast<EventfdTable*>(this)->Mutable(kind);
}

void EventfdTable::Set(InterruptKind kind, uint32_t vector, int fd) {
  int& held = Mutable(kind).at(vector);
  if (held >= 0) close(held);
  held = fd;
}

void EventfdTable::Raise(InterruptKind kind, uint32_t vector) const {
  const absl::Span<const int> vectors = Vectors(kind);
  if (vector < vectors.size() && vectors[vector] >= 0) {
    RaiseEventfd(vectors[vector]);
  }
}

bool IsEventfd(int fd) {
  struct stat status;
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0 ||
      (status.st_mode & S_IFMT) != 0) {
    return false;
  }
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

void RaiseEventfd(int fd) {
  const uint64_t one = 1;
  // A full counter means that QEMU has been told often enough.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

}  // namespace bulkhead::proxy

#include "services/runtime/shared_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/memfd.h"

namespace bulkhead {
namespace {

#ifndef F_SEAL_FUTURE_WRITE
constexpr int F_SEAL_FUTURE_WRITE = 0x0010;  // Linux 5.1
#endif

absl::Status Failed(const char* step, const char* name) {
  return absl::InternalError(absl::StrCat(name, ": ", step, ": errno ", errno));
}

}  // namespace

absl::StatusOr<SharedPages> SharedPages::Create(const char* name,
                                                size_t size_bytes, Peer peer) {
  const int fd = sandbox::OpenMemfd(name);
  if (fd < 0) return Failed("memfd_create", name);
  SharedPages pages(fd, nullptr, size_bytes);
  if (ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) {
    return Failed("ftruncate", name);
  }
  void* base =
      mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return Failed("mmap", name);
  pages.base_ = static_cast<uint8_t*>(base);
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL |
                    (peer == Peer::kMayRead ? F_SEAL_FUTURE_WRITE : 0);
  if (fcntl(fd, F_ADD_SEALS, seals) != 0) return Failed("F_ADD_SEALS", name);
  return pages;
}

SharedPages::SharedPages(SharedPages&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      base_(std::exchange(other.base_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

SharedPages::~SharedPages() {
  if (base_ != nullptr) munmap(base_, size_bytes_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace bulkhead

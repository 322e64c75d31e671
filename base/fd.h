// Fd owns a file descriptor.
//
// TRUST    Nothing.
// ERRORS   None: an invalid Fd holds -1.
// THREADS  Movable between threads, not shared.

#ifndef BULKHEAD_BASE_FD_H_
#define BULKHEAD_BASE_FD_H_

#include <unistd.h>

#include <utility>

namespace bulkhead {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = other.Release();
    }
    return *this;
  }
  ~Fd() { Close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) ::close(Release());
  }

 private:
  int fd_ = -1;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BASE_FD_H_

#include "sandbox/last_words.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <new>

namespace bulkhead::sandbox {
namespace {

constexpr int kLogFd = 2;

void WriteByPwritev2(const char* line, size_t size_bytes) {
  const iovec piece = {const_cast<char*>(line), size_bytes};
  (void)!pwritev2(kLogFd, &piece, 1, -1, 0);
}

LineWriter line_writer = WriteByPwritev2;

void OutOfMemory() { Die("out of memory"); }
void Terminate() { Die("std::terminate"); }

[[maybe_unused]] const auto installed = [] {
  std::set_new_handler(OutOfMemory);
  std::set_terminate(Terminate);
  return true;
}();

}  // namespace

void SetLastWordsWriter(LineWriter writer) { line_writer = writer; }

void WriteLastWordsByWrite(const char* line, size_t size_bytes) {
  (void)!write(kLogFd, line, size_bytes);
}

void Die(const char* what, const char* detail) {
  char line[512] = "fatal: ";
  std::strncat(line, what, 100);
  if (detail != nullptr) {
    std::strncat(line, ": ", 3);
    std::strncat(line, detail, 390);
  }
  std::strncat(line, "\n", 2);
  line_writer(line, std::strlen(line));
  __builtin_trap();
}

}  // namespace bulkhead::sandbox

// A sanitizer's runtime has its own of these, and is linked dynamically.
#ifndef BULKHEAD_SANITIZED

// What libc's headers declare, and what its other parts call. The C library is
// linked statically, so that these take the place of its own.
extern "C" {

void abort() { bulkhead::sandbox::Die("abort() was called"); }

void __assert_fail(const char* assertion, const char* file, unsigned line,
                   const char* function) noexcept {
  (void)line;
  (void)function;
  // Assertion first: the file's name and the code say the line.
  static char text[256];
  std::strncat(text, file, 100);
  std::strncat(text, ": ", 3);
  std::strncat(text, assertion, 120);
  bulkhead::sandbox::Die("assertion failed", text);
}

[[noreturn]] void __stack_chk_fail() {
  bulkhead::sandbox::Die("the stack was smashed");
}

// malloc's own checks, and those of _FORTIFY_SOURCE.
[[noreturn]] void __libc_message(int, const char* format, ...) {
  bulkhead::sandbox::Die("the C library", format);
}
[[noreturn]] void __libc_message_impl(const char* format, ...) {
  bulkhead::sandbox::Die("the C library", format);
}
[[noreturn]] void __libc_fatal(const char* message) {
  bulkhead::sandbox::Die("the C library", message);
}
[[noreturn]] void __chk_fail() {
  bulkhead::sandbox::Die("a buffer's end was overrun");
}
[[noreturn]] void __fortify_fail(const char* message) {
  bulkhead::sandbox::Die("the C library", message);
}

}  // extern "C"

#endif  // BULKHEAD_SANITIZED

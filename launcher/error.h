// UserError is an error that a person can act on: what, where, why, and what to
// do about it. It travels as an absl::Status; the parts ride as payloads.
//
//   demo.textproto:7:12: error BH-C104: devices[0]...disk.image: x: no such
//   file
//     7 |   disk { image: "x" }
//                  ^
//     fix: give an absolute path, or one relative to demo.textproto
//
// THREADS  Any.

#ifndef BULKHEAD_LAUNCHER_ERROR_H_
#define BULKHEAD_LAUNCHER_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace bulkhead::launcher {

// What `vm` exits with.
enum ExitCode {
  kExitOk = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitNotReady = 4,     // something did not become ready in time
  kExitGuestReset = 32,  // the guest asked for a reset that ends the VM
  kExitQemuCrashed = 33,
  kExitGuestPanic = 34,
  kExitBadConfig = 64,
  kExitMissingFeature = 69,
  kExitDeviceCrashed = 70,
  kExitPermission = 77,
  kExitViolation = 148,  // a filter killed a process
};

struct UserError {
  ExitCode exit_code = kExitInternal;
  std::string id;       // "BH-C104"
  std::string where;    // "demo.textproto:7:12", "--disk"; may be empty
  std::string what;     // one line
  std::string excerpt;  // the line of the file it stands in; may be empty
  std::string why;      // may be empty
  std::string fix;

  absl::Status ToStatus() const;
};

// The status as `vm` prints it, with a newline at the end. Any status will do;
// several that were joined are printed one after another.
std::string FormatError(const absl::Status& status);

ExitCode ExitCodeOf(const absl::Status& status);

// `first` with `next` after it: every mistake of a description is told at once.
absl::Status Join(absl::Status first, const absl::Status& next);

// strerror as people write it: "no such file or directory".
std::string ErrnoText(int error);

// Text from elsewhere (a process, a file) as it may be printed on a terminal:
// control bytes and bytes above 0x7e become \xNN.
std::string Escape(absl::string_view text);

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_ERROR_H_

// UserError is an error that a person can act on: what, where, why, and what to
// do about it. It travels as an absl::Status; the parts ride as payloads.
//
//   demo.textproto:7:12: error BH-C104: devices[0]...disk.image: x: no such
//   file
//     7 |   disk { image: "x" }
//                  ^
//     fix: give an absolute path, or one relative to demo.textproto
//
// TRUST    `what` and `fix` are shown as they are: whoever takes text from
//          elsewhere escapes it.
// ERRORS   None: every status can be formatted.
// THREADS  Any.

#ifndef BULKHEAD_BASE_ERROR_H_
#define BULKHEAD_BASE_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/exit_code.h"

namespace bulkhead {

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

}  // namespace bulkhead

#endif  // BULKHEAD_BASE_ERROR_H_

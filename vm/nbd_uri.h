// What the URI of an NBD server says.
//
// SPEC     https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
// TRUST    The owner's own words.
// ERRORS   InvalidArgument: what is wrong, and what would be right.
// THREADS  Any.

#ifndef BULKHEAD_VM_NBD_URI_H_
#define BULKHEAD_VM_NBD_URI_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead::vm {

struct NbdUri {
  std::string socket_path;  // of a UNIX socket; else host and port
  std::string host;
  std::string port;
  std::string export_name;
};

// "nbd://HOST[:PORT][/EXPORT]" or "nbd+unix:///[EXPORT]?socket=PATH". An error
// says what is wrong and what would be right.
absl::StatusOr<NbdUri> ParseNbdUri(const std::string& uri);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_NBD_URI_H_

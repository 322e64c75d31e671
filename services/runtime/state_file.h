// A saved device: a header that names the model, and the bytes of
// Device::State, written to an fd from its present position on.
//
// TRUST    A file that is read may be anything. The header, the length and a
//          checksum are checked here; what the bytes mean, the device checks.
// ERRORS   InvalidArgument: not a saved state of this model and version;
//          Internal: the fd cannot be read or written.
// THREADS  The loop. Nothing but fd_io.h is called.

#ifndef BULKHEAD_SERVICES_RUNTIME_STATE_FILE_H_
#define BULKHEAD_SERVICES_RUNTIME_STATE_FILE_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace bulkhead {

inline constexpr size_t kMaxModelBytes = 32;

absl::Status WriteState(int fd, absl::string_view model,
                        absl::Span<const std::byte> state);

// Fills exactly state.size() bytes, or fails.
absl::Status ReadState(int fd, absl::string_view model,
                       absl::Span<std::byte> state);

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_STATE_FILE_H_

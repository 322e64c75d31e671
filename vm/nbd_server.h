// The NBD server of a disk: whether it is there, and how to reach it.
//
// TRUST    The URI is the owner's. The server is connected to once, and nothing
//          is read from it.
// ERRORS   UserError at the disk's nbd.uri.
// THREADS  Any.

#ifndef BULKHEAD_VM_NBD_SERVER_H_
#define BULKHEAD_VM_NBD_SERVER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "proto/frame.pb.h"
#include "vm/description.h"
#include "vm/devices.h"

namespace bulkhead::vm {

struct FoundServer {
  ConnectorConfig config;
  Fd folder;  // of a UNIX socket
  // The id that may connect there, when root starts the VM; 0: anyone may.
  uint32_t owner = 0;
};

// Resolves the server's name and tries to connect.
absl::StatusOr<FoundServer> FindNbdServer(const Description& description,
                                          const ImageUse& use);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_NBD_SERVER_H_

// VerifyDisk proves from the host's side what --check's guest has written: the
// image is consistent (qemu-img check), and the files that the guest reported
// are in it (qemu-img convert, debugfs), with the same checksums.
//
// TRUST    A guest wrote the image, so this process does not read it: the tools
//          run in jails, with the image and one output as their only fds.
// ERRORS   UserError: what did not hold, or which tool is missing.
// THREADS  One thread (sandbox::Spawn), SIGCHLD blocked.

#ifndef BULKHEAD_DEMO_VERIFY_H_
#define BULKHEAD_DEMO_VERIFY_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "demo/check_console.h"

namespace bulkhead::demo {

// `image`: an fd of the qcow2 image. `tool_id`: the tools' id when root asks.
// `say` gets a line for each step.
absl::Status VerifyDisk(int image, uint64_t disk_bytes,
                        const std::vector<CheckConsole::File>& files,
                        uid_t tool_id,
                        const std::function<void(const std::string&)>& say);

}  // namespace bulkhead::demo

#endif  // BULKHEAD_DEMO_VERIFY_H_

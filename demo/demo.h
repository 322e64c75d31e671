// The demo VM: our guest kernel and initrd, and a qcow2 disk of 256 MiB behind
// an lsi53c895a.
//
// TRUST    The user's own environment names the disk's place.
// ERRORS   UserError: ./bazelw has not run, or the disk cannot be made.
// THREADS  Any.

#ifndef BULKHEAD_DEMO_DEMO_H_
#define BULKHEAD_DEMO_DEMO_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "vm/description.h"

namespace bulkhead::demo {

inline constexpr uint64_t kDemoDiskBytes = uint64_t{256} << 20;

// Where the demo's disk is kept between runs:
// ${XDG_STATE_HOME:-~/.local/state}/bulkhead/demo/disk.qcow2.
std::string DemoDiskPath();

// Makes an empty qcow2 image of `bytes`, with the folders that lead to it. An
// image that is there already is left as it is.
absl::Status MakeEmptyQcow2(const std::string& path, uint64_t bytes);

// An empty qcow2 image without a name, which is gone with the last who has it
// open. Its path is /proc/self/fd/N.
absl::StatusOr<Fd> MakeScratchDisk(uint64_t bytes);

// `disk`: the image. `check`: the guest checks the disk and powers off.
absl::Status DescribeDemo(const std::map<std::string, std::string>& paths,
                          const std::string& disk, bool check,
                          vm::Description* description);

}  // namespace bulkhead::demo

#endif  // BULKHEAD_DEMO_DEMO_H_

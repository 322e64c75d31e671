// Opens the files of a VM's disks, with the locks by which QEMU's programs and
// other VMs see that they are in use.
//
// TRUST    An image's bytes are hostile. Twenty of them are looked at here: the
//          magic and the version of a qcow2 header, compared with constants,
//          and its disk's and its clusters' sizes, which bound what its service
//          may make of the file. An image that lies there gets a bound that is
//          too large, or is refused by its service.
// ERRORS   UserError at the image's field: missing, not permitted, not a file,
//          too small, in use, format unknown.
// THREADS  Any.

#ifndef BULKHEAD_VM_IMAGE_H_
#define BULKHEAD_VM_IMAGE_H_

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "proto/service_config.pb.h"
#include "vm/description.h"
#include "vm/devices.h"

namespace bulkhead::vm {

struct OpenedImage {
  Fd fd;
  ImageFormat format = IMAGE_FORMAT_UNSPECIFIED;
  uint32_t direct_alignment_bytes = 0;  // 0: not O_DIRECT
  uint64_t most_bytes = 0;  // that the file may have; 0: nobody writes to it
};

// The largest that a file of `size_bytes` may become while its disk is in use:
// a raw image keeps its size, to the end of its last sector; a qcow2 image may
// grow by its whole disk and the tables for that. `fd` is read for the latter.
uint64_t MostImageBytes(int fd, ImageFormat format, uint64_t size_bytes);

absl::StatusOr<OpenedImage> OpenImage(const Description& description,
                                      const ImageUse& use);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_IMAGE_H_

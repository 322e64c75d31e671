// Opens the files of a VM's disks, with the locks by which QEMU's programs and
// other VMs see that they are in use.
//
// TRUST    An image's bytes are hostile. Eight of them are looked at here, and
//          only to tell the format: the magic and the
//          version of a qcow2 header, compared with constants.
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
};

absl::StatusOr<OpenedImage> OpenImage(const Description& description,
                                      const ImageUse& use);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_IMAGE_H_

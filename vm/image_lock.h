// The locks by which QEMU's programs and ours keep out of each other's images.
//
// TRUST    The fd is an opened image; its bytes are not looked at.
// ERRORS   An errno.
// THREADS  Any.

#ifndef BULKHEAD_VM_IMAGE_LOCK_H_
#define BULKHEAD_VM_IMAGE_LOCK_H_

namespace bulkhead::vm {

// Takes QEMU's byte-range locks on `fd` for one who writes, or one who only
// reads and wants nobody to write. They last as long as the open file
// description: until the last process that holds it is gone. An errno; EAGAIN:
// someone else uses the file in a way that does not go with ours.
int LockImage(int fd, bool write);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_IMAGE_LOCK_H_

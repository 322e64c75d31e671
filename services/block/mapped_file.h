// MappedFile is a file in memory (tmpfs), read through a mapping made at
// set-up: a read of what is there is a copy, without a system call.
//
// Only pages that are known to be there are read so. A hole read through a
// mapping would become a page (a guest could fill the host's memory by reading
// an empty disk), so holes are read by system calls; so is all that lies beyond
// the size at set-up. Everything else goes to the file beneath.
//
// Writes go there as well, unless the caller asks for Stores::kMapped: a write
// by the kernel ends between pages when the process is killed, a copy of ours
// ends anywhere, in the middle of a sector too. Where nobody minds (a disk that
// is thrown away), a page that is there is written by a copy. A hole never is:
// on a full file system that would be a SIGBUS, while a system call says so.
//
// TRUST    Offsets and lengths are the engine's. The bytes are hostile, and
//          segments may be guest memory: they are copied, never looked at.
// ERRORS   As FileIo. Whoever else shrinks the file while it is open ends the
//          process (SIGBUS), as with guest RAM that is a plain file; the
//          image's locks keep QEMU's tools from it.
// THREADS  Safe for concurrent calls. Copies go on beside each other; making a
//          hole waits for those under way, and no copy ever waits.

#ifndef BULKHEAD_SERVICES_BLOCK_MAPPED_FILE_H_
#define BULKHEAD_SERVICES_BLOCK_MAPPED_FILE_H_

#include <cstdint>
#include <memory>

#include "services/block/file_io.h"

namespace bulkhead::block {

enum class Stores : bool { kSystemCalls, kMapped };

// `file` itself where `fd` cannot be mapped (no room for it in the process's
// address space). Set-up: it asks the file for its holes.
std::unique_ptr<FileIo> MakeMappedFile(std::unique_ptr<FileIo> file, int fd,
                                       uint64_t size_bytes, Stores stores);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_MAPPED_FILE_H_

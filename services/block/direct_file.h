// DirectFile is a file that was opened past the page cache (O_DIRECT): what is
// aligned goes straight through, the rest (the few odd bytes of an image's
// metadata, a guest's odd buffers) through a buffer of its own.
//
// A write of less than a block is a read, a change and a write under a lock
// that only such writes take. It is for metadata, which no aligned write
// touches at the same time: guests write whole blocks (vm/ sees to it).
//
// TRUST    As FileIo.
// ERRORS   As FileIo.
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SERVICES_BLOCK_DIRECT_FILE_H_
#define BULKHEAD_SERVICES_BLOCK_DIRECT_FILE_H_

#include <memory>

#include "services/block/file_io.h"

namespace bulkhead::block {

// `file` demands that addresses, lengths and offsets are multiples of
// `alignment_bytes`, a power of two.
std::unique_ptr<FileIo> MakeDirectFile(std::unique_ptr<FileIo> file,
                                       uint32_t alignment_bytes);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_DIRECT_FILE_H_

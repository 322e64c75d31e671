// Decoder has libqcow decode single clusters: compressed ones (zlib) and those
// encrypted with the legacy AES method.
//
// libqcow never sees an image of the user's. Through its I/O callbacks it is
// shown an image that is made up here: a header and tables of our own making,
// in which the cluster in question, found by our own mapping, lies where they
// say; only the cluster's bytes are read from the file. So libqcow is never
// asked about a zero cluster, an unallocated one, one outside the file, LUKS,
// or a mapping of somebody else's, all of which it answers wrongly or not at
// all; and no hostile number reaches it, only hostile cluster contents.
//
//   made up (compressed)  header | L1 | L2 | the cluster, by its length
//   made up (encrypted)   header | L1 | L2s | the disk, where each cluster is
//                         read from where our mapping found it
//
// TRUST    The cluster's bytes are hostile. libqcow is trusted as far as the
//          jail goes; its memory is a Gate's.
// ERRORS   -EBADMSG: these bytes are no compressed cluster of that size.
//          -ENOMEM: libqcow wanted more than the gate has. Else the file's.
// THREADS  One at a time per Decoder. After Create nothing is allocated and no
//          system call made but the file's reads.
// SPEC     qcow2.txt "Compressed Clusters"; "crypt_method" 1: AES-CBC by
//          sectors of 512 bytes, the sector's number as initial vector.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_DECODER_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_DECODER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "services/block/file_io.h"

namespace bulkhead::block::qcow2 {

inline constexpr size_t kAesKeyBytes = 16;

// libqcow says that `file` is an image of QEMU's copy-on-write formats, of
// whatever version. Set-up.
bool HasQcowSignature(FileIo& file);

// How the clusters of one image are coded.
struct Coding {
  unsigned cluster_bits = 16;
  uint64_t disk_bytes = 0;
  bool encrypted = false;
  std::array<uint8_t, kAesKeyBytes> key = {};
};

class Decoder {
 public:
  // `memory_bytes`: at least MemoryFor each coding that it will be asked for.
  explicit Decoder(size_t memory_bytes);
  ~Decoder();
  static size_t MemoryFor(const Coding& coding);
  // Encrypted disks have a limit, for libqcow's table of them is in memory.
  static bool IsPossible(const Coding& coding);

  // Opens what the first Decrypt would open: libqcow's first use of AES fills
  // tables of its own, which no two threads may do at one time.
  bool Prepare(const Coding& coding);

  // The compressed cluster in [host_offset, host_offset + compressed_bytes) of
  // `file`. `coding` stays where it is for the decoder's life. `to` holds a
  // cluster.
  int Inflate(const Coding& coding, FileIo& file, uint64_t host_offset,
              uint64_t compressed_bytes, uint8_t* to);
  // The encrypted cluster at `host_offset`, which is the disk's at
  // `disk_offset`.
  int Decrypt(const Coding& coding, FileIo& file, uint64_t host_offset,
              uint64_t disk_offset, uint8_t* to);
  // Which coding it is ready for.
  const Coding* coding() const;

 private:
  class MadeUpImage;
  std::unique_ptr<MadeUpImage> image_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_DECODER_H_

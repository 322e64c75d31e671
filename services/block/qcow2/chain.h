// OpenChain makes one disk of an image and its parents.
//
// The names that images give their parents are compared with those of the VM
// description and never followed: a parent is a file that was handed in.
//
// TRUST    Every file is hostile; names and formats in ChainFile are the
//          launcher's.
// ERRORS   As Open (services/block/open.h).
// THREADS  Set-up.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_CHAIN_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_CHAIN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/qcow2/engine.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block::qcow2 {

struct ChainFile {
  std::unique_ptr<FileIo> file;
  bool is_qcow2 = true;  // of any version
  std::string name;
  std::string aes_key;  // 16 bytes where the image is encrypted, else empty
};

struct ChainOptions {
  EngineOptions engine;
  size_t l2_cache_bytes = 4 << 20;  // of each image
};

// A key file's password as the key of an image with legacy AES encryption: 1 to
// 16 bytes, padded with zeroes; a newline at the end is not part of it.
absl::StatusOr<std::string> ReadAesKey(FileIo& file);

// The images of a chain as layers, for who only looks at them. Nothing is
// written.
absl::StatusOr<std::vector<Layer>> OpenLayers(std::vector<ChainFile> files,
                                              size_t l2_cache_bytes);

// What the disk has at `offset_bytes`: a run of at most `max_bytes`, and the
// layer that it comes from (layers.size(): none, it reads as zeroes). Blocks.
struct Place {
  size_t layer = 0;
  Extent extent;
};
absl::StatusOr<Place> Locate(const std::vector<Layer>& layers,
                             uint64_t offset_bytes, uint64_t max_bytes);

// files[0] is the active image, its parent follows, and so on.
absl::StatusOr<std::unique_ptr<Engine>> OpenChain(
    std::vector<ChainFile> files, std::unique_ptr<WorkerPool> pool,
    const ChainOptions& options);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_CHAIN_H_

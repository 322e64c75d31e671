// What //tools:image does to an image, inside the jail.
//
// TRUST    Images are hostile. Text of theirs is escaped before it is printed.
// ERRORS   A Status for the user. Compare answers with its exit status.
// THREADS  One, and the engine's workers.

#ifndef BULKHEAD_TOOLS_IMAGE_COMMANDS_H_
#define BULKHEAD_TOOLS_IMAGE_COMMANDS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/worker_pool.h"

namespace bulkhead::image_tool {

struct NamedFile {
  std::unique_ptr<block::FileIo> file;
  bool is_qcow2 = true;  // of any version
  std::string name;
  std::string aes_key;
};

struct Request {
  std::string verb;
  bool json = false;
  uint64_t offset = 0;
  uint64_t length = 0;      // 0: to the end
  uint64_t count = 100000;  // bench
  uint64_t depth = 1;
  uint64_t block_bytes = 4096;
  bool write = false;
  std::vector<NamedFile> image;  // the image and its parents
  std::vector<NamedFile> other;  // compare
  std::unique_ptr<block::WorkerPool> pool;
  std::unique_ptr<block::WorkerPool> other_pool;
};

// The exit status: 0, or 1 where the images differ or a check found damage.
absl::StatusOr<int> Run(Request request);

}  // namespace bulkhead::image_tool

#endif  // BULKHEAD_TOOLS_IMAGE_COMMANDS_H_

// What tests of the engine need of QEMU's tools: images made and judged by
// somebody else.
//
// ERRORS   A tool that fails fails the test, with what it said.
// THREADS  The test's.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_QEMU_TOOLS_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_QEMU_TOOLS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/rig.h"

namespace bulkhead::block::qcow2 {

// A directory of its own, gone afterwards.
class ImageDirectory {
 public:
  ImageDirectory();
  ~ImageDirectory();

  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct ToolResult {
  int exit_status = -1;
  std::string output;  // of both streams
};
ToolResult RunTool(const std::vector<std::string>& command);

// `arguments` as the shell would split them at spaces.
void QemuImg(const std::string& arguments);
// One qemu-io session on an image.
void QemuIo(const std::string& image, const std::vector<std::string>& commands);

// qemu-img check: "" when clean, else what it said.
std::string CheckComplaint(const std::string& image);
// The same, but leaked clusters are no complaint.
std::string CorruptionComplaint(const std::string& image);

// The disk's contents as qemu-img reads them.
std::string ContentByQemu(const std::string& image);

// One image of a chain.
struct ChainMember {
  std::string path;
  bool is_qcow2 = true;
  std::string key_file = "";
};

// A disk opened as a service opens it.
struct DiskOptions {
  bool read_only = false;
  unsigned workers = 0;
};
absl::StatusOr<std::unique_ptr<Backend>> TryOpenDisk(
    const std::vector<ChainMember>& chain, const DiskOptions& options);
Rig OpenDisk(const std::vector<ChainMember>& chain, const DiskOptions& options);

// All of a disk, read in pieces.
std::string Content(Rig& rig);

// Differs at every position and for every seed.
std::string Pattern(uint64_t seed, uint64_t offset, size_t bytes);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_QEMU_TOOLS_H_

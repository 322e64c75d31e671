// IsoImage writes an ISO 9660 file system with files in its root directory, and
// a boot catalogue (El Torito, no emulation) if there is something to boot.
//
// SPEC  ECMA-119; El Torito 1.0.

#ifndef BULKHEAD_TESTS_SUPPORT_ISO_IMAGE_H_
#define BULKHEAD_TESTS_SUPPORT_ISO_IMAGE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace bulkhead::testing {

class IsoImage {
 public:
  static constexpr size_t kBlockBytes = 2048;
  // Where the first file's contents begin; the others follow.
  static constexpr size_t kFirstFileBlock = 21;

  // `name`: at most 8.3 of A-Z, 0-9 and _.
  void AddFile(const std::string& name, std::string contents);
  // One block, loaded at 7C00h.
  void SetBootImage(std::string boot_image);
  bool Write(const std::string& path) const;

 private:
  struct File {
    std::string name;
    std::string contents;
  };
  std::vector<File> files_;
  std::string boot_image_;
};

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_SUPPORT_ISO_IMAGE_H_

// WriteFatImage writes a FAT16 file system without a partition table that holds
// \EFI\BOOT\BOOTX64.EFI: what UEFI firmware starts from a disk that it does not
// know.
//
// SPEC  Microsoft FAT specification, §3 to §6; UEFI 2.8 §3.5.1.1.

#ifndef BULKHEAD_TESTS_SUPPORT_FAT_IMAGE_H_
#define BULKHEAD_TESTS_SUPPORT_FAT_IMAGE_H_

#include <string>

namespace bulkhead::testing {

// False when the program is larger than 60 MB, or the file cannot be written.
bool WriteFatImage(const std::string& path, const std::string& program);

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_SUPPORT_FAT_IMAGE_H_

// The flags that may stand several times: --device, --disk, --cdrom, each a
// head and options. One table says which options there are; the parser, its
// errors and --help all go by it.
//
// TRUST    The user's own words.
// ERRORS   UserError with exit code 2, naming the flag.
// THREADS  Any.

#ifndef BULKHEAD_VM_FLAG_PARTS_H_
#define BULKHEAD_VM_FLAG_PARTS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "vm/description.h"

namespace bulkhead::vm {

// One of them with its value, as the user wrote it.
struct PartFlag {
  enum class Kind { kDevice, kDisk, kCdrom };
  Kind kind;
  std::string value;
};

// Puts it into the description. Relative paths are made absolute with
// `directory`.
absl::Status ApplyPart(const PartFlag& flag, const std::string& directory,
                       Description* description);

// "file=F, format=auto|raw|qcow2|qcow, ..."; of a device with what only some
// models have: "queues=N (virtio_blk)".
std::string OptionsText(PartFlag::Kind kind);

// What all flags share.
absl::Status UsageError(const std::string& where, const std::string& what,
                        const std::string& fix);
std::string MakeAbsolute(const std::string& directory, const std::string& path);

template <typename Enum, typename Parse>
bool ParseEnum(std::string text, Parse parse, Enum* value) {
  for (char& c : text) c = absl::ascii_toupper(static_cast<unsigned char>(c));
  return parse(text, value);
}

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_FLAG_PARTS_H_

#include "vm/ids.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace bulkhead::vm {

absl::StatusOr<IdBlock> ReserveIds(uid_t range_first, const std::string& file) {
  Fd lock(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) {
    return UserError{.exit_code = kExitMissingFeature,
                     .id = "BH-S206",
                     .what = absl::StrCat("cannot reserve ids for the VM: ",
                                          file, ": ", ErrnoText(errno)),
                     .fix = "make /run writable for root"}
        .ToStatus();
  }
  for (int block = 0; block < kMostVms; ++block) {
    struct flock byte = {};
    byte.l_type = F_WRLCK;
    byte.l_whence = SEEK_SET;
    byte.l_start = block;
    byte.l_len = 1;
    if (fcntl(lock.get(), F_OFD_SETLK, &byte) == 0) {
      return IdBlock{range_first + block * kIdsOfOneVm, std::move(lock)};
    }
  }
  return UserError{
      .exit_code = kExitMissingFeature,
      .id = "BH-S206",
      .what = absl::StrCat("all ", kMostVms, " blocks of ids are in use"),
      .fix = "end another VM"}
      .ToStatus();
}

}  // namespace bulkhead::vm

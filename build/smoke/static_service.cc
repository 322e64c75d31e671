// Calls into each library that a service may link, and prints what it found.

#include <cap-ng.h>
#include <libqcow.h>
#include <liburing.h>
#include <seccomp.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdio>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "build/smoke/ping.pb.h"

namespace {

absl::StatusOr<int> Allow() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) return absl::InternalError("seccomp_init");
  const int rules = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(read), 0);
  seccomp_release(filter);
  return rules;
}

}  // namespace

int main() {
  bulkhead::smoke::Ping ping;
  ping.mutable_stamp()->set_sequence(7);
  capng_clear(CAPNG_SELECT_BOTH);
  io_uring_sqe entry = {};
  io_uring_prep_nop(&entry);
  const std::string line = absl::StrCat(
      "rules=", Allow().value_or(-1), " bytes=", ping.ByteSizeLong(),
      " nop=", entry.opcode == IORING_OP_NOP,
      " qcow=", libqcow_get_version() != nullptr,
      " zlib=", zlibVersion() != nullptr, " zstd=", ZSTD_versionNumber() > 0);
  std::puts(line.c_str());
  return 0;
}

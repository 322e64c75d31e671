// Thousands of spoiled images, each read by our engine, QEMU and libqcow:
//
//   bazel run //services/block/qcow2:differential_campaign -- --images=5000
//
// Exit status 1: two of them read the same bytes differently. A crash or a hang
// of our engine ends the campaign.

#include <stdio.h>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "services/block/qcow2/differential_rig.h"

ABSL_FLAG(uint64_t, images, 5000, "how many");
ABSL_FLAG(uint64_t, seed, 1000, "of the first");

namespace bulkhead::block::qcow2 {
namespace {

int Run() {
  DifferentialRig rig;
  const uint64_t images = absl::GetFlag(FLAGS_images);
  uint64_t opened = 0;
  uint64_t by_qemu = 0;
  uint64_t by_libqcow = 0;
  uint64_t bytes = 0;
  uint64_t bad = 0;
  for (uint64_t i = 0; i < images; ++i) {
    const auto outcome = rig.Judge(absl::GetFlag(FLAGS_seed) + i);
    opened += outcome.opened ? 1 : 0;
    by_qemu += outcome.qemu_answered ? 1 : 0;
    by_libqcow += outcome.libqcow_answered ? 1 : 0;
    bytes += outcome.compared_bytes;
    if (outcome.complaint.empty()) continue;
    ++bad;
    printf("%s\n", outcome.complaint.c_str());
    fflush(stdout);
  }
  printf(
      "%llu images: %llu opened by us, %llu read by QEMU too, %llu by libqcow "
      "too; %llu bytes compared; %llu bad\n",
      static_cast<unsigned long long>(images),
      static_cast<unsigned long long>(opened),
      static_cast<unsigned long long>(by_qemu),
      static_cast<unsigned long long>(by_libqcow),
      static_cast<unsigned long long>(bytes),
      static_cast<unsigned long long>(bad));
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::block::qcow2

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::block::qcow2::Run();
}

// The power fails ten thousand times:
//
//   bazel run //services/block/qcow2:crash_campaign -- --cuts=10000
//
// Each cut is judged by our own checker, by content, and by qemu-img check,
// which takes most of the time (--qemu_every=20: every twentieth cut only).
// Exit status 1: a cut lost data or broke an image.

#include <stdio.h>

#include <fstream>
#include <random>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "services/block/qcow2/crash_rig.h"
#include "services/block/qcow2/qemu_tools.h"

ABSL_FLAG(int, cuts, 10000, "how many cuts in all");
ABSL_FLAG(int, cuts_per_run, 200, "how many of one recorded workload");
ABSL_FLAG(int, requests, 250, "requests in a workload");
ABSL_FLAG(int, qemu_every, 1, "judge every so many cuts by qemu-img too");
ABSL_FLAG(int64_t, seed, 1, "of the first workload; each next adds 1");

namespace bulkhead::block::qcow2 {
namespace {

int Run() {
  const int cuts = absl::GetFlag(FLAGS_cuts);
  const int per_run = absl::GetFlag(FLAGS_cuts_per_run);
  ImageDirectory images;
  const std::string path = images.Path("cut.qcow2");
  int done = 0;
  int judged_by_qemu = 0;
  int bad = 0;
  uint64_t seed = static_cast<uint64_t>(absl::GetFlag(FLAGS_seed));
  for (size_t run = 0; done < cuts; ++run, ++seed) {
    const CrashScenario& scenario =
        kCrashScenarios[run % kCrashScenarios.size()];
    CrashRig rig(scenario, seed, absl::GetFlag(FLAGS_requests));
    if (!rig.failure().empty()) {
      printf("%s, seed %llu: %s\n", scenario.name,
             static_cast<unsigned long long>(seed), rig.failure().c_str());
      return 1;
    }
    std::mt19937_64 random(seed);
    int bad_here = 0;
    for (int i = 0; i < per_run && done < cuts; ++i, ++done) {
      const size_t position = random() % (rig.record_size() + 1);
      const auto mode = static_cast<CutMode>(random() % kCutModes);
      const uint64_t cut_seed = random();
      std::string complaint = rig.Judge(position, mode, cut_seed);
      if (complaint.empty() && done % absl::GetFlag(FLAGS_qemu_every) == 0) {
        ++judged_by_qemu;
        std::ofstream(path, std::ios::binary)
            << rig.ImageAt(position, mode, cut_seed);
        complaint = CorruptionComplaint(path);
      }
      if (complaint.empty()) continue;
      ++bad_here;
      printf("%s, seed %llu, cut at %zu of %zu, mode %d: %s\n", scenario.name,
             static_cast<unsigned long long>(seed), position, rig.record_size(),
             static_cast<int>(mode), complaint.c_str());
    }
    bad += bad_here;
    printf("%-18s seed %-4llu %5zu records: %s   %d of %d cuts\n",
           scenario.name, static_cast<unsigned long long>(seed),
           rig.record_size(), bad_here == 0 ? "ok " : "BAD", done, cuts);
    fflush(stdout);
  }
  printf("%d cuts, %d of them judged by qemu-img as well: %d bad\n", done,
         judged_by_qemu, bad);
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::block::qcow2

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::block::qcow2::Run();
}

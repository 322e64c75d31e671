// How fast is the jailed NVMe service, driven over its own queues, and what
// does it cost while nothing happens?
//
//   bazel run -c opt //bench:nvme -- [--dir=/dev/shm] [--format=raw|qcow2]
//       [--rounds=3] [--seconds=0.5] [--only=depth 1] [--json=FILE] [--idle]
//       [--queue_threads=2 [--queues=4]]
//
// A real service process under its real filters; this program is the guest: it
// writes commands into shared RAM, doorbells into memory, and finds completions
// there. Two clients take turns: one polls for completions, as the peers' do;
// one sleeps until its vector is signalled. The first peer is our virtio_blk,
// under the same load. The second is SPDK's vfio-user target over aio on a
// tmpfs file, target and client each spinning on a CPU of its own. It is not
// run here: its figures are those measured once on such a machine.
//
// --queue_threads compares ours with itself: so many threads beside one, both
// with --queues queue pairs that the load fills in turn.

#include "policy/nvme.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/device_load.h"
#include "bench/nvme_target.h"
#include "bench/random_disk.h"
#include "bench/report.h"
#include "bench/virtio_service.h"
#include "proto/service_config.pb.h"
#include "proto/service_fds.h"
#include "services/runtime/testing/frame_rig.h"

ABSL_FLAG(std::string, dir, "/dev/shm", "where the image lies");
ABSL_FLAG(std::string, format, "raw", "raw or qcow2");
ABSL_FLAG(int, rounds, 3, "how often each side runs");
ABSL_FLAG(double, seconds, 0.5, "of each measurement");
ABSL_FLAG(std::string, only, "", "figures whose name contains this");
ABSL_FLAG(std::string, json, "", "write the samples there");
ABSL_FLAG(uint32_t, spin_us, 50, "spin limit of our service");
ABSL_FLAG(uint32_t, queue_threads, 0, "compare so many threads with one");
ABSL_FLAG(uint32_t, queues, 4, "with --queue_threads: 1 to 4");
ABSL_FLAG(bool, idle, false, "show what our idle service costs");

namespace bulkhead::bench {
namespace {

constexpr double kPolls = 1e9;  // us: a client that never sleeps
constexpr char kPolling[] = "polling client";
constexpr char kVirtio[] = "virtio_blk";
constexpr char kSpdk[] = "spdk, published";
constexpr char kSleeping[] = "interrupts";
constexpr char kThreads[] = "several threads";
constexpr char kOneThread[] = "one thread";

// SPDK's IOPS; 0 where there is no figure.
double Spdk(const Load& load) {
  if (load.bytes == 128 << 10) return 8 * (load.write ? 3546 : 4498);
  if (load.depth == 1) return load.write ? 245e3 : 283e3;
  if (load.depth == 32) return load.write ? 378e3 : 445e3;
  return load.write ? 0 : 469e3;
}

class NvmeService {
 public:
  NvmeService(const std::string& image, bool qcow2, bool interrupts,
              unsigned queues = 1, unsigned threads = 1) {
    disk_ = open(image.c_str(), O_RDWR | O_CLOEXEC);
    ServiceConfig config;
    config.mutable_polling()->set_spin_limit_us(absl::GetFlag(FLAGS_spin_us));
    config.mutable_nvme()->set_serial("bench");
    config.mutable_nvme()->set_queue_threads(threads);
    config.mutable_nvme()->add_namespaces();
    BackendConfig* backend = config.add_backends();
    backend->mutable_image()->set_fd(kFirstBackendFd);
    backend->mutable_image()->set_format(qcow2 ? QCOW2 : RAW);
    FrameRig::Options options;
    options.ram_bytes = NvmeTarget::kRamBytes;
    rig_ = FrameRig::Spawn("services/nvme/service", policy::Nvme(), config,
                           {disk_}, options);
    target_ = std::make_unique<NvmeTarget>(*rig_, RandomDisk::kBytes,
                                           interrupts, queues);
  }
  ~NvmeService() {
    rig_->Finish();
    close(disk_);
  }

  NvmeTarget& target() { return *target_; }
  std::map<std::string, uint64_t> Statistics() { return rig_->Statistics(); }

  uint64_t SystemCalls() {
    return bench::SystemCalls(rig_->pid(), Statistics());
  }

 private:
  int disk_;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<NvmeTarget> target_;
};

class Bench {
 public:
  Bench()
      : qcow2_(absl::GetFlag(FLAGS_format) == "qcow2"),
        disk_(absl::GetFlag(FLAGS_dir), qcow2_),
        image_(disk_.path()),
        comparison_(absl::StrCat("nvme, ", absl::GetFlag(FLAGS_format), " on ",
                                 absl::GetFlag(FLAGS_dir)),
                    absl::GetFlag(FLAGS_queue_threads) > 0
                        ? std::vector<std::string>{kThreads, kOneThread}
                        : std::vector<std::string>{kPolling, kVirtio, kSpdk,
                                                   kSleeping}) {}

  bool Compare() {
    for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
      for (const Load& load : StandardLoads(absl::GetFlag(FLAGS_seconds))) {
        if (!absl::StrContains(load.name, absl::GetFlag(FLAGS_only))) continue;
        if (const unsigned threads = absl::GetFlag(FLAGS_queue_threads);
            threads > 0) {
          const unsigned queues = absl::GetFlag(FLAGS_queues);
          comparison_.Figure(load.name, "IOPS", true);
          comparison_.Figure(load.name + " CPU", "us of the server per request",
                             false);
          Measure(load, /*interrupts=*/true, kThreads, queues, threads);
          Measure(load, /*interrupts=*/true, kOneThread, queues, 1);
          continue;
        }
        comparison_.Figure(load.name, "IOPS", true, {1.0, 1.0});
        // Who goes first changes from round to round.
        if (round % 2 != 0) MeasureVirtio(load);
        Measure(load, /*interrupts=*/false, kPolling);
        if (round % 2 == 0) MeasureVirtio(load);
        Measure(load, /*interrupts=*/true, kSleeping);
        if (!qcow2_ && Spdk(load) > 0) {
          comparison_.Add(load.name, kSpdk, Spdk(load));
        }
      }
    }
    const bool met = comparison_.Print();
    comparison_.WriteJson(absl::GetFlag(FLAGS_json));
    return met;
  }

  void Idle() {
    NvmeService ours(image_, qcow2_, true);
    ShowIdle(ours.target(), [&] { return ours.Statistics(); });
  }

 private:
  void Measure(const Load& load, bool interrupts, const char* who,
               unsigned queues = 1, unsigned threads = 1) {
    NvmeService ours(image_, qcow2_, interrupts, queues, threads);
    const double spin_us = interrupts ? 0 : kPolls;
    RunLoad(ours.target(), WarmUp(load), spin_us);
    const uint64_t before = ours.SystemCalls();
    const LoadResult result = RunLoad(ours.target(), load, spin_us);
    const uint64_t calls = ours.SystemCalls() - before;
    comparison_.Add(load.name, who, result.iops);
    if (absl::GetFlag(FLAGS_queue_threads) > 0) {
      comparison_.Add(load.name + " CPU", who, result.server_cpu_us);
    }
    printf(
        "%-28s %-15s %9.0f IOPS  p50 %7.1f us  p99 %7.1f us  CPU us/request: "
        "service %5.2f client %5.2f  calls/request %.2f\n",
        load.name.c_str(), who, result.iops, result.p50_us, result.p99_us,
        result.server_cpu_us, result.client_cpu_us,
        static_cast<double>(calls) / static_cast<double>(result.requests));
    fflush(stdout);
  }

  void MeasureVirtio(const Load& load) {
    VirtioService peer({.image = image_,
                        .qcow2 = qcow2_,
                        .spin_us = absl::GetFlag(FLAGS_spin_us)});
    RunLoad(peer.target(), WarmUp(load), kPolls);
    const LoadResult result = RunLoad(peer.target(), load, kPolls);
    comparison_.Add(load.name, kVirtio, result.iops);
    printf("%-28s %-15s %9.0f IOPS  p50 %7.1f us  p99 %7.1f us\n",
           load.name.c_str(), kVirtio, result.iops, result.p50_us,
           result.p99_us);
    fflush(stdout);
  }

  static Load WarmUp(Load load) {
    load.seconds /= 5;
    return load;
  }

  const bool qcow2_;
  const RandomDisk disk_;
  const std::string image_;
  Comparison comparison_;
};

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  bulkhead::bench::Bench bench;
  if (absl::GetFlag(FLAGS_idle)) {
    bench.Idle();
    return 0;
  }
  return bench.Compare() ? 0 : 1;
}

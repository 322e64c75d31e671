// How fast is our jailed virtio_blk beside qemu-storage-daemon's
// vhost-user-blk?
//
//   bazel run -c opt //bench:virtio_blk -- [--dir=/dev/shm]
//       [--format=raw|qcow2] [--rounds=3] [--seconds=0.5] [--only=depth 1]
//       [--json=FILE] [--idle] [--throw_away] [--queue_threads=2 [--queues=4]]
//
// One load generator with one ring implementation drives both (device_load.h,
// virtio_target.h): ours through the frames and eventfds that the shim sets up,
// the program under its real filters; the daemon through vhost-user. Rounds
// alternate. The daemon runs in two ways (aio=io_uring; aio=native with
// cache.direct and an iothread of its own); the better one of each round
// counts.
//
// Three more are what a load has that shares its process with its disk, and
// nothing stands between the two (in_process_disk.h): "libblkio" a raw image
// through that library (Debian's libblkio1, or --blkio=PATH), in two ways of
// which the better one counts; "mapped" and "calls" our own engine, with and
// without its mapping of images that lie in memory.
//
// --queue_threads compares ours with itself: so many threads beside one, both
// with --queues queues that the load fills in turn. On two CPUs the load itself
// takes one of them.
//
// --idle instead shows what our service costs when nothing happens.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/device_load.h"
#include "bench/in_process_disk.h"
#include "bench/random_disk.h"
#include "bench/report.h"
#include "bench/vhost_user.h"
#include "bench/virtio_service.h"
#include "bench/virtio_target.h"
#include "proto/service_config.pb.h"
#include "services/block/open.h"
#include "tests/support/process.h"

ABSL_FLAG(std::string, dir, "/dev/shm", "where the image lies");
ABSL_FLAG(std::string, format, "raw", "raw or qcow2");
ABSL_FLAG(int, rounds, 3, "how often each side runs");
ABSL_FLAG(double, seconds, 0.5, "of each measurement");
ABSL_FLAG(std::string, only, "", "figures whose name contains this");
ABSL_FLAG(std::string, json, "", "write the samples there");
ABSL_FLAG(double, client_spin_us, 50, "before the load generator sleeps");
ABSL_FLAG(uint32_t, spin_us, 50, "spin limit of our service");
ABSL_FLAG(bool, packed, false, "packed virtqueue for ours");
ABSL_FLAG(std::string, daemon, "qemu-storage-daemon", "the peer's program");
ABSL_FLAG(std::string, blkio, "libblkio.so.1", "the library in process");
ABSL_FLAG(bool, throw_away, false, "ours with a disk that is thrown away");
ABSL_FLAG(uint32_t, queue_threads, 0, "compare so many threads with one");
ABSL_FLAG(uint32_t, queues, 4, "with --queue_threads");
ABSL_FLAG(bool, peers, true, "run the peers too");
ABSL_FLAG(bool, idle, false, "show what our idle service costs");

namespace bulkhead::bench {
namespace {

constexpr char kOurs[] = "bulkhead";
constexpr char kThreads[] = "several threads";
constexpr char kOneThread[] = "one thread";
constexpr char kBest[] = "qsd best";
constexpr char kUring[] = "qsd io_uring";
constexpr char kNative[] = "qsd native";
constexpr char kLibrary[] = "in process, libblkio";
constexpr char kMapped[] = "in process, mapped";
constexpr char kCalls[] = "in process, calls";

VirtioService::Options Ours(const std::string& image, bool qcow2) {
  return {.image = image,
          .qcow2 = qcow2,
          .packed = absl::GetFlag(FLAGS_packed),
          .throw_away = absl::GetFlag(FLAGS_throw_away),
          .spin_us = absl::GetFlag(FLAGS_spin_us)};
}

// ---- the peer

// "11.1.3" of what the daemon says of itself.
std::string DaemonVersion() {
  const std::string command = absl::GetFlag(FLAGS_daemon) + " --version";
  char line[256] = "";
  if (FILE* pipe = popen(command.c_str(), "r")) {
    if (fgets(line, sizeof line, pipe) == nullptr) line[0] = 0;
    pclose(pipe);
  }
  char version[32] = "?";
  sscanf(line, "qemu-storage-daemon version %31s", version);
  return version;
}

class Daemon {
 public:
  Daemon(const std::string& image, bool qcow2, bool native,
         const std::string& directory) {
    const std::string socket = directory + "/vhost.sock";
    std::filesystem::remove(socket);
    const std::string file =
        absl::StrCat("driver=file,node-name=f,filename=", image,
                     native ? ",aio=native,cache.direct=on" : ",aio=io_uring");
    const std::string disk = qcow2 ? "driver=qcow2,node-name=d,file=f"
                                   : "driver=raw,node-name=d,file=f";
    std::vector<std::string> command = {absl::GetFlag(FLAGS_daemon),
                                        "--blockdev", file, "--blockdev", disk};
    std::string thread;
    if (native) {
      command.insert(command.end(), {"--object", "iothread,id=t"});
      thread = ",iothread=t";
    }
    command.insert(
        command.end(),
        {"--export", absl::StrCat("type=vhost-user-blk,id=e,addr.type=unix,"
                                  "addr.path=",
                                  socket, ",node-name=d,writable=on", thread)});
    process_ = std::make_unique<testing::Process>(command);
    ram_fd_ = memfd_create("ram", MFD_CLOEXEC);
    if (ftruncate(ram_fd_, kRamBytes) != 0) exit(1);
    ram_ = static_cast<uint8_t*>(mmap(
        nullptr, kRamBytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd_, 0));
    front_end_ = std::make_unique<VhostUser>(socket);
    target_ = std::make_unique<VirtioTarget>(
        ram_, /*packed=*/false, /*queues=*/1, RandomDisk::kBytes,
        process_->pid(), [this](unsigned) { front_end_->Kick(); },
        [this] { front_end_->Wait(); });
    front_end_->Start(ram_fd_, ram_, kRamBytes, target_->queue());
  }
  ~Daemon() {
    front_end_.reset();
    process_.reset();
    munmap(ram_, kRamBytes);
    close(ram_fd_);
  }

  VirtioTarget& target() { return *target_; }

 private:
  std::unique_ptr<testing::Process> process_;
  int ram_fd_;
  uint8_t* ram_;
  std::unique_ptr<VhostUser> front_end_;
  std::unique_ptr<VirtioTarget> target_;
};

// ---- the comparison

class Bench {
 public:
  Bench()
      : qcow2_(absl::GetFlag(FLAGS_format) == "qcow2"),
        disk_(absl::GetFlag(FLAGS_dir), qcow2_),
        image_(disk_.path()),
        comparison_(
            absl::StrCat("virtio_blk, ", absl::GetFlag(FLAGS_format), " on ",
                         absl::GetFlag(FLAGS_dir),
                         absl::GetFlag(FLAGS_packed) ? ", packed" : "",
                         ", beside qemu-storage-daemon ", DaemonVersion()),
            absl::GetFlag(FLAGS_queue_threads) > 0
                ? std::vector<std::string>{kThreads, kOneThread}
                : std::vector<std::string>{kOurs, kBest, kLibrary, kUring,
                                           kNative, kMapped, kCalls}) {}

  bool Compare() {
    for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
      for (const Load& load : StandardLoads(absl::GetFlag(FLAGS_seconds))) {
        if (!absl::StrContains(load.name, absl::GetFlag(FLAGS_only))) continue;
        if (const unsigned threads = absl::GetFlag(FLAGS_queue_threads);
            threads > 0) {
          RoundOfThreads(load, threads);
        } else {
          Round(load, round % 2 != 0);
        }
      }
    }
    const bool met = comparison_.Print();
    comparison_.WriteJson(absl::GetFlag(FLAGS_json));
    return met;
  }

  void Idle() {
    VirtioService ours(Ours(image_, qcow2_));
    ShowIdle(ours.target(), [&] { return ours.Statistics(); });
  }

 private:
  // `around` is called right before and right after.
  double Measure(
      LoadTarget& target, const Load& load, const char* who,
      const std::function<void()>& around = [] {}) {
    WriteBack();
    RunLoad(target,
            {.name = load.name,
             .write = load.write,
             .random = load.random,
             .bytes = load.bytes,
             .depth = load.depth,
             .seconds = 0.1},
            absl::GetFlag(FLAGS_client_spin_us));
    around();
    const LoadResult result =
        RunLoad(target, load, absl::GetFlag(FLAGS_client_spin_us));
    around();
    const bool large = load.bytes > 4096;
    const double value = large ? result.mib_per_second : result.iops;
    comparison_.Add(load.name, who, value);
    if (!large) comparison_.Add(load.name + " p50", who, result.p50_us);
    comparison_.Add(load.name + " CPU", who, result.server_cpu_us);
    fprintf(stderr,
            "%-28s %-14s %9.0f  p50 %.1f p99 %.1f us, CPU %.1f + %.1f\n",
            load.name.c_str(), who, value, result.p50_us, result.p99_us,
            result.server_cpu_us, result.client_cpu_us);
    last_ = result;
    return value;
  }

  // What one side left dirty in the page cache is not written back while
  // another is measured.
  void WriteBack() const {
    const int fd = open(image_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) perror(image_.c_str());
    close(fd);
  }

  void Declare(const Load& load) {
    const bool large = load.bytes > 4096;
    const double beside_daemon = large ? 1.0 : load.depth == 1 ? 2.0 : 1.3;
    constexpr double kBesideLibrary = 0.8;
    comparison_.Figure(load.name, large ? "MiB/s" : "IOPS", true,
                       {beside_daemon, kBesideLibrary});
    if (!large) comparison_.Figure(load.name + " p50", "us", false);
    comparison_.Figure(load.name + " CPU", "us of the server per request",
                       false, {1.0});
    comparison_.Figure(load.name + " system calls", "per request", false);
  }

  void RoundOfThreads(const Load& load, unsigned threads) {
    const bool large = load.bytes > 4096;
    comparison_.Figure(load.name, large ? "MiB/s" : "IOPS", true);
    if (!large) comparison_.Figure(load.name + " p50", "us", false);
    comparison_.Figure(load.name + " CPU", "us of the server per request",
                       false);
    for (const unsigned count : {threads, 1u}) {
      VirtioService::Options options = Ours(image_, qcow2_);
      options.queues = absl::GetFlag(FLAGS_queues);
      options.threads = count;
      VirtioService ours(options);
      Measure(ours.target(), load, count == 1 ? kOneThread : kThreads);
    }
  }

  // Who goes first changes from round to round.
  void Round(const Load& load, bool peers_first) {
    Declare(load);
    if (!absl::GetFlag(FLAGS_peers)) return MeasureOurs(load);
    if (!peers_first) MeasureOurs(load);
    MeasureDaemon(load);
    if (!qcow2_) MeasureLibrary(load);
    for (const bool map_memory : {true, false}) {
      EngineDisk disk(image_, qcow2_, map_memory);
      Measure(disk, load, map_memory ? kMapped : kCalls);
    }
    if (peers_first) MeasureOurs(load);
  }

  void MeasureOurs(const Load& load) {
    VirtioService ours(Ours(image_, qcow2_));
    uint64_t calls = 0;
    Measure(ours.target(), load, kOurs,
            [&] { calls = ours.SystemCalls() - calls; });
    comparison_.Add(
        load.name + " system calls", kOurs,
        static_cast<double>(calls) / static_cast<double>(last_.requests));
  }

  // The better one of a peer's two ways is what counts.
  class Best {
   public:
    Best(Bench& bench, const Load& load, const char* who)
        : bench_(bench), load_(load), who_(who) {}
    ~Best() {
      bench_.comparison_.Add(load_.name, who_, value_);
      bench_.comparison_.Add(load_.name + " p50", who_, result_.p50_us);
      bench_.comparison_.Add(load_.name + " CPU", who_, result_.server_cpu_us);
    }
    Best(const Best&) = delete;
    Best& operator=(const Best&) = delete;
    void Measure(LoadTarget& target, const char* way) {
      const double value = bench_.Measure(target, load_, way);
      if (value <= value_) return;
      value_ = value;
      result_ = bench_.last_;
    }

   private:
    Bench& bench_;
    const Load& load_;
    const char* const who_;
    double value_ = 0;
    LoadResult result_;
  };

  void MeasureDaemon(const Load& load) {
    Best best(*this, load, kBest);
    for (const bool native : {false, true}) {
      Daemon daemon(image_, qcow2_, native, disk_.directory());
      best.Measure(daemon.target(), native ? kNative : kUring);
    }
  }

  void MeasureLibrary(const Load& load) {
    const std::string library = absl::GetFlag(FLAGS_blkio);
    if (BlkioDisk::Create(library, image_, /*waits=*/false) == nullptr) {
      fprintf(stderr, "no %s: no library to compare with\n", library.c_str());
      return;
    }
    Best best(*this, load, kLibrary);
    for (const bool waits : {false, true}) {
      auto disk = BlkioDisk::Create(library, image_, waits);
      best.Measure(*disk, waits ? "libblkio waits" : "libblkio asks");
    }
  }

  const bool qcow2_;
  const RandomDisk disk_;
  const std::string image_;
  Comparison comparison_;
  LoadResult last_;
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
  return bench.Compare() ? 0 : 3;
}

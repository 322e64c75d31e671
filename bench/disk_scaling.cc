// What do many disks in one VM cost: until all are ready, in memory, and in
// what they read together?
//
//   bazel run -c opt //bench:disk_scaling -- [--device=virtio_blk|nvme]
//       [--disks=1,2,4,8,16] [--seconds=3] [--dir=/dev/shm] [--json=FILE]
//
// Boots the test guest (TCG, 1 vCPU) with so many raw disks and reads from all
// of them at once, 4 KiB random at depth 16 each: with our devices, each its
// own jailed service behind its own shim, and with QEMU's own inside QEMU, in
// turn. Memory is what is not guest RAM: anonymous pages and pages of programs.
// That of a service is one's own; "in all" is everything that the VM runs, QEMU
// too.

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/report.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

ABSL_FLAG(std::string, device, "virtio_blk", "virtio_blk or nvme");
ABSL_FLAG(std::vector<std::string>, disks,
          (std::vector<std::string>{"1", "2", "4", "8", "16"}), "how many");
ABSL_FLAG(int, seconds, 3, "of reading");
ABSL_FLAG(std::string, dir, "/dev/shm", "where the images lie");
ABSL_FLAG(std::string, json, "", "write the samples there");

namespace bulkhead::bench {
namespace {

using Clock = std::chrono::steady_clock;
using testing::Process;
using testing::Seconds;

constexpr char kOurs[] = "bulkhead";
constexpr char kPeer[] = "qemu in-process";
constexpr char kInitrd[] = "tools/guest/initrd.cpio";

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

// "RssAnon:  1234 kB" of /proc/PID/status.
double StatusKib(pid_t pid, const std::string& key) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0) return atof(&line[key.size() + 1]);
  }
  return 0;
}

double Field(const std::string& line, const std::string& key) {
  const size_t at = line.find(key + "=");
  return at == std::string::npos ? 0 : atof(&line[at + key.size() + 1]);
}

double MemoryKib(pid_t pid) {
  return StatusKib(pid, "RssAnon") + StatusKib(pid, "RssFile");
}

std::string KernelArguments(int disks) {
  return absl::StrCat(
      "console=ttyS0 quiet bulkhead.script=scale bulkhead.disks=", disks,
      " bulkhead.seconds=", absl::GetFlag(FLAGS_seconds), " bulkhead.prefix=",
      absl::GetFlag(FLAGS_device) == "nvme" ? "nvme" : "vd");
}

std::string Image(int disk, const std::string& directory) {
  std::string image = absl::StrCat(directory, "/", disk, ".raw");
  if (!std::filesystem::exists(image) &&
      system(("head -c 16M /dev/urandom > " + image).c_str()) != 0) {
    exit(1);
  }
  return image;
}

std::vector<std::string> OurCommand(int disks, const std::string& directory) {
  std::vector<std::string> command = {
      "launcher/vm",
      "--accel=tcg",
      "--memory=256MiB",
      "--kernel=" + testing::RuntimePath("guest_kernel"),
      "--initrd=" + std::filesystem::absolute(kInitrd).string(),
      "--append=" + KernelArguments(disks)};
  for (int i = 0; i < disks; ++i) {
    command.push_back(
        absl::StrCat("--device=", absl::GetFlag(FLAGS_device), ",id=disk", i));
    command.push_back(absl::StrCat("--disk=disk", i,
                                   ",format=raw,file=", Image(i, directory)));
  }
  return command;
}

std::vector<std::string> PeerCommand(int disks, const std::string& directory) {
  const auto copy = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(testing::RuntimePath("guest_kernel"),
                             directory + "/vmlinuz", copy);
  std::filesystem::copy_file(kInitrd, directory + "/initrd", copy);
  std::vector<std::string> arguments = {
      "-nodefaults", "-no-user-config",
      "-display",    "none",
      "-serial",     "stdio",
      "-machine",    "pc,memory-backend=ram,graphics=off,usb=off,vmport=off",
      "-accel",      "tcg",
      "-m",          "256M",
      "-object",     "memory-backend-memfd,id=ram,share=on,size=256M",
      "-kernel",     directory + "/vmlinuz",
      "-initrd",     directory + "/initrd",
      "-append",     KernelArguments(disks)};
  const bool nvme = absl::GetFlag(FLAGS_device) == "nvme";
  for (int i = 0; i < disks; ++i) {
    arguments.insert(arguments.end(),
                     {"-drive",
                      absl::StrCat("if=none,id=d", i,
                                   ",format=raw,file=", Image(i, directory)),
                      "-device",
                      nvme ? absl::StrCat("nvme,serial=disk", i, ",drive=d", i)
                           : absl::StrCat("virtio-blk-pci,drive=d", i)});
  }
  return testing::QemuCommand(arguments, {directory});
}

bool Measure(int disks, const std::string& directory, const char* who,
             Comparison* comparison) {
  const std::string suffix = absl::StrCat(", disks: ", disks);
  const bool ours = who == kOurs;
  const Clock::time_point start = Clock::now();
  Process vm(ours ? OurCommand(disks, directory)
                  : PeerCommand(disks, directory));
  if (ours) {
    if (!vm.WaitFor("the machine is built", Seconds(60))) {
      fprintf(stderr, "%s\n", vm.output().c_str());
      return false;
    }
    comparison->Figure("machine built" + suffix, "ms", false);
    comparison->Add("machine built" + suffix, who, MillisecondsSince(start));
  }
  if (!vm.WaitFor("BULKHEAD-SCALE uptime_ms", Seconds(180))) {
    fprintf(stderr, "%s\n", vm.output().c_str());
    return false;
  }
  comparison->Figure("guest has its disks" + suffix, "ms", false);
  comparison->Add("guest has its disks" + suffix, who,
                  MillisecondsSince(start));
  vm.Drain(Seconds(1));  // all of them have worked by now
  double kib = 0;
  double kib_in_all = MemoryKib(vm.pid());
  int services = 0;
  for (const pid_t pid : vm.Descendants()) {
    kib_in_all += MemoryKib(pid);
    const std::string line = testing::CommandLine(pid);
    if (line.rfind(absl::GetFlag(FLAGS_device) + " ", 0) != 0) continue;
    kib += MemoryKib(pid);
    ++services;
  }
  if (ours) {
    comparison->Figure("memory of a service" + suffix, "KiB", false);
    comparison->Add("memory of a service" + suffix, who,
                    services > 0 ? kib / services : 0);
  }
  comparison->Figure("memory in all" + suffix, "KiB", false);
  comparison->Add("memory in all" + suffix, who, kib_in_all);
  const int status = vm.Wait(Seconds(180));
  double iops = 0;
  int lines = 0;
  std::istringstream output(vm.output());
  for (std::string line; std::getline(output, line);) {
    if (line.find("BULKHEAD-BENCH") == std::string::npos) continue;
    iops += Field(line, "iops");
    ++lines;
  }
  fprintf(stderr,
          "%2d disks, %-15s %6.0f KiB in all, a service %5.0f KiB, "
          "%8.0f IOPS\n",
          disks, who, kib_in_all, services > 0 ? kib / services : 0, iops);
  comparison->Figure("4 KiB randread depth 16 each" + suffix, "IOPS in all",
                     true);
  comparison->Add("4 KiB randread depth 16 each" + suffix, who, iops);
  if (status == 0 && lines == disks && services == (ours ? disks : 0)) {
    return true;
  }
  fprintf(stderr, "%s, %d disks: status %d, %d services, %d results\n%s\n", who,
          disks, status, services, lines, vm.output().c_str());
  return false;
}

int Run() {
  const std::string directory =
      absl::StrCat(absl::GetFlag(FLAGS_dir), "/bulkhead-scaling-", getpid());
  std::filesystem::create_directory(directory);
  Comparison comparison(
      absl::StrCat(absl::GetFlag(FLAGS_device), " disks in one VM (TCG)"),
      {kOurs, kPeer});
  bool good = true;
  for (const std::string& text : absl::GetFlag(FLAGS_disks)) {
    int disks = 0;
    if (!absl::SimpleAtoi(text, &disks) || disks < 1 || disks > 16) {
      fprintf(stderr, "--disks: 1 to 16\n");
      return 2;
    }
    for (const char* who : {kOurs, kPeer}) {
      good = good && Measure(disks, directory, who, &comparison);
    }
  }
  std::filesystem::remove_all(directory);
  comparison.Print();
  comparison.WriteJson(absl::GetFlag(FLAGS_json));
  return good ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::bench::Run();
}

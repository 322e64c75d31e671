// What does a guest pay for a device outside of QEMU, in each of the four ways:
// {our lsi53c895a service, QEMU's own remote process} behind {x-pci-proxy-dev,
// vfio-user-pci}?
//
// A boot sector in 16-bit code (tests/guest/lsi_sector) reads and writes one
// register 4096 times through the I/O BAR, and the disk through the BIOS, and
// says so on its serial line; the time between its lines is what counts. All
// four run in `vm`, jailed. With KVM one QEMU does it all; without,
// vfio-user-pci is measured in the new QEMU and x-pci-proxy-dev in the
// distribution's older one, as newer ones do not run that without KVM.

#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "bench/report.h"
#include "tests/guest/boot_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead {
namespace {

using testing::BootImage;
using testing::Seconds;

constexpr int kBoots = 2;  // of each way, in turn
constexpr int kRoundsOfABoot = 3;
constexpr double kAccesses = 4096;
constexpr double kDiskMib = 64 * 32.0 / 1024;

const char kRead[] = "register read, round trip";
const char kWrite[] = "register write, round trip";
const char kDisk[] = "disk read through the BIOS";

struct Way {
  const char* name;
  bool is_remote;
  bool is_proxy;
};
// Ours behind the seed's interface first: it is compared with QEMU's own there.
constexpr Way kWays[] = {{"ours/proxy", false, true},
                         {"x-remote/proxy", true, true},
                         {"ours/vfio", false, false},
                         {"x-remote/vfio", true, false}};

double NowSeconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

std::vector<std::string> VmCommand(const Way& way, bool has_kvm,
                                   const BootImage& image,
                                   const std::string& directory) {
  const std::string config = directory + "/vm.textproto";
  std::ofstream out(config);
  out << "machine { memory: \"64MiB\" } access_deadline_ms: 5000\n"
         "devices { id: \"lsi0\" ";
  if (way.is_remote) {
    out << "qemu_remote { args: \"-device\" args: \"lsi53c895a,id=lsi0\" "
           "args: \"-drive\" args: \"id=d,if=none,format=raw,file={disk}\" "
           "args: \"-device\" args: \"scsi-hd,drive=d,bus=lsi0.0\" "
           "image { name: \"disk\" image: \""
        << image.path() << "\" } } }\n";
  } else {
    out << "lsi53c895a { target { disk { format: RAW image: \"" << image.path()
        << "\" } } } }\n";
  }
  std::vector<std::string> command = {
      "launcher/vm", "--config=" + config,
      has_kvm ? "--accel=kvm" : "--accel=tcg",
      way.is_proxy ? "--frontend=x_pci_proxy" : "--frontend=vfio_user"};
  if (!has_kvm && way.is_proxy) {
    command.push_back("--qemu=" + testing::RuntimePath("system_qemu"));
  }
  return command;
}

void Measure(const Way& way, bool has_kvm, bench::Comparison* table) {
  const testing::ScratchDirectory directory;
  const BootImage image(directory.path() + "/disk.img", testing::kBenchSector,
                        BootImage::Ending::kPowerOff);
  testing::Process vm(VmCommand(way, has_kvm, image, directory.path()));
  const auto until = [&](const char* line) {
    if (vm.WaitFor(line, Seconds(120))) return NowSeconds();
    fprintf(stderr, "%s: %s never came\n%s\n", way.name, line,
            vm.output().c_str());
    exit(1);
  };
  for (int round = 0; round < kRoundsOfABoot; ++round) {
    const double start = until("BENCH start");
    const double reads = until("BENCH reads");
    const double writes = until("BENCH writes");
    const double disk = until("BENCH disk");
    table->Add(kRead, way.name, (reads - start) / kAccesses * 1e6);
    table->Add(kWrite, way.name, (writes - reads) / kAccesses * 1e6);
    table->Add(kDisk, way.name, kDiskMib / (disk - writes));
  }
}

int Main() {
  const bool has_kvm = access("/dev/kvm", R_OK | W_OK) == 0;
  std::vector<std::string> names;
  for (const Way& way : kWays) names.push_back(way.name);
  bench::Comparison table(has_kvm
                              ? "four ways out of QEMU, 16-bit guest under KVM"
                              : "four ways out of QEMU, 16-bit guest under TCG",
                          names);
  table.Figure(kRead, "us", /*more_is_better=*/false, {1.2});
  table.Figure(kWrite, "us", /*more_is_better=*/false);
  table.Figure(kDisk, "MiB/s", /*more_is_better=*/true, {1.0});
  for (int boot = 0; boot < kBoots; ++boot) {
    for (const Way& way : kWays) Measure(way, has_kvm, &table);
  }
  return table.Print() ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead

int main() { return bulkhead::Main(); }

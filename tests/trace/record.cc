// record DEVICE TRACE: writes down what Linux's driver does to a disk of ours,
// from its probe to its end (tests/guest/scripts/tour.sh).
//
//   bazel run //tests/trace:record -- nvme /tmp/nvme.trace
//   bazel run //tests/trace:record -- virtio_blk_split /tmp/split.trace
//   bazel run //tests/trace:record -- virtio_blk_packed /tmp/packed.trace
//
// A real QEMU and the real shim; the device runs in this process, with
// RecordingDevice before it. Needs root (as QEMU opens this process's memfd).

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "proxy/shim_process.h"
#include "services/runtime/testing/frame_rig.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"
#include "tests/trace/recorder.h"

namespace bulkhead::testing {
namespace {

constexpr uint64_t kRamBytes = uint64_t{512} << 20;
constexpr uint64_t kDiskBytes = 64 << 20;
constexpr Seconds kTour(300);

int Fail(const std::string& why) {
  std::fprintf(stderr, "record: %s\n", why.c_str());
  return 1;
}

struct Disk {
  const char* model;  // of the service
  const char* name;   // in the guest
  const char* driver;
};

// Hello, Configure, Ready, as the launcher does.
bool StartService(FrameRig& rig, const ServiceConfig& config) {
  Channel& control = rig.control();
  control.outgoing().mutable_hello()->set_version(kProtocolVersion);
  if (!control.Send().ok()) return false;
  *control.outgoing().mutable_configure()->mutable_service_config() =
      config.SerializeAsString();
  if (!control.Send().ok()) return false;
  do {
    Channel::Received received;
    if (!control.Receive(/*wait=*/true, &received).ok()) return false;
    if (control.incoming().has_fault()) {
      std::fprintf(stderr, "%s\n",
                   control.incoming().fault().message().c_str());
      return false;
    }
  } while (!control.incoming().has_ready());
  return true;
}

int Record(const std::string& which, const std::string& path) {
  const bool nvme = which == "nvme";
  const Disk disk = nvme ? Disk{"nvme", "nvme0n1", "nvme"}
                         : Disk{"virtio_blk", "vda", "virtio-pci"};
  ServiceConfig config;
  if (nvme) {
    config.mutable_nvme()->set_serial("BH-TRACE");
    config.mutable_nvme()->add_namespaces();
  } else if (which == "virtio_blk_split" || which == "virtio_blk_packed") {
    config.mutable_virtio_blk()->set_serial("BH-TRACE");
    if (which == "virtio_blk_split") {
      config.mutable_virtio_blk()->set_rings(VirtioBlkConfig::SPLIT);
    }
  } else {
    return Fail(which + ": nvme, virtio_blk_split or virtio_blk_packed");
  }
  const int image = memfd_create("disk", MFD_CLOEXEC);
  if (ftruncate(image, kDiskBytes) != 0) return Fail("no disk");
  config.add_backends()->mutable_image()->set_fd(image);
  config.mutable_backends(0)->mutable_image()->set_format(RAW);
  config.set_ram_bytes(kRamBytes);
  FILE* const trace = fopen(path.c_str(), "w");
  if (trace == nullptr) return Fail(path + " cannot be written");

  const auto rig = FrameRig::InProcess(
      disk.model, nvme ? RecordedNvme(trace) : RecordedVirtioBlk(trace), config,
      {.ram_bytes = kRamBytes, .start = false});
  if (!StartService(*rig, config)) return Fail("the service does not start");

  ScratchDirectory scratch;
  ShimConfig shim_config;
  shim_config.set_access_deadline_ms(5000);
  const std::string socket = scratch.path() + "/device";
  proxy::ShimProcess shim("proxy/shim", socket, shim_config, rig->ram_fd(),
                          rig->shim().fd());
  const std::string kernel = RuntimePath("guest_kernel");
  const std::string initrd =
      std::filesystem::canonical("tools/guest/initrd.cpio").string();
  const std::string ram =
      absl::StrCat("/proc/", getpid(), "/fd/", rig->ram_fd());
  OwnQemu qemu(
      {"-nodefaults",
       "-display",
       "none",
       "-serial",
       "stdio",
       "-machine",
       "q35,memory-backend=ram,graphics=off",
       "-m",
       absl::StrCat(kRamBytes >> 20, "M"),
       "-object",
       absl::StrCat("memory-backend-file,id=ram,mem-path=", ram,
                    ",share=on,size=", kRamBytes),
       "-accel",
       "tcg",
       "-cpu",
       "max",
       "-kernel",
       kernel,
       "-initrd",
       initrd,
       "-append",
       absl::StrCat("console=ttyS0 quiet panic=-1 bulkhead.script=tour "
                    "bulkhead.disk=",
                    disk.name, " bulkhead.driver=", disk.driver),
       "-device",
       absl::StrCat("{\"driver\":\"vfio-user-pci\",\"id\":\"d0\","
                    "\"x-msg-timeout\":120000,\"socket\":{\"type\":\"unix\","
                    "\"path\":\"",
                    socket, "\"}}")},
      scratch.path(),
      {std::filesystem::path(kernel).parent_path().string(),
       std::filesystem::path(initrd).parent_path().string()});
  const bool good =
      qemu.process().WaitFor("BULKHEAD-SCRIPT name=tour result=ok", kTour);
  const bool ended = qemu.process().Wait(Seconds(60)) == 0;
  shim.End();
  rig->Finish();
  fclose(trace);
  if (good && ended) return 0;
  return Fail("the tour did not end well:\n" + qemu.process().output());
}

}  // namespace
}  // namespace bulkhead::testing

int main(int argc, char** argv) {
  if (argc != 3) {
    return bulkhead::testing::Fail("usage: record DEVICE TRACE");
  }
  return bulkhead::testing::Record(argv[1], argv[2]);
}

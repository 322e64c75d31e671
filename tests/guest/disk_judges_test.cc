// fio, xfs and ext4 in a Linux guest judge the jailed disks:
// tests/guest/scripts/disk_judges.sh, with several processors and queues, and
// with the interrupts of old.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kJudgement(420);

struct Judged {
  const char* name;
  int vcpus;
  // Its devices; $SMALL is a qcow2 image, $LARGE a raw one.
  const char* devices;
  // For disk_judges.sh, and the kernel.
  const char* words;
};

constexpr Judged kJudged[] = {
    {"NvmeWithAQueueForEachProcessor", 4,
     "nvme { namespace { image: '$SMALL' format: QCOW2 }"
     "       namespace { image: '$LARGE' format: RAW block_size: 4096 } }",
     "bulkhead.disk=nvme0n1,nvme0n2 bulkhead.driver=nvme bulkhead.queues=4"},
    {"NvmeByTwoThreads", 4,
     "nvme { queue_threads: 2 namespace { image: '$LARGE' format: RAW } }",
     "bulkhead.disk=nvme0n1 bulkhead.driver=nvme bulkhead.queues=4"},
    {"NvmeByIntx", 1, "nvme { namespace { image: '$SMALL' format: QCOW2 } }",
     "bulkhead.disk=nvme0n1 bulkhead.driver=nvme bulkhead.interrupts=IO-APIC "
     "pci=nomsi"},
    // Indirect descriptors, event index, packed rings, queue reset.
    {"PackedVirtioBlkWithAQueueForEachProcessor", 4,
     "virtio_blk { queues: 4 disk { image: '$SMALL' format: QCOW2 } }",
     "bulkhead.disk=vda bulkhead.queues=4 bulkhead.agreed=28,29,34,40"},
    {"SplitVirtioBlkOfLargeBlocksByTwoThreads", 4,
     "virtio_blk { queues: 4 queue_threads: 2 rings: SPLIT"
     "  disk { image: '$LARGE' format: RAW block_size: 4096 } }",
     "bulkhead.disk=vda bulkhead.queues=4 bulkhead.agreed=28,29,-34"},
    {"VirtioBlkByIntx", 1,
     "virtio_blk { disk { image: '$SMALL' format: QCOW2 } }",
     "bulkhead.disk=vda bulkhead.interrupts=IO-APIC pci=nomsi"},
};

std::string Replace(std::string text, const std::string& name,
                    const std::string& value) {
  for (size_t at; (at = text.find(name)) != std::string::npos;) {
    text.replace(at, name.size(), value);
  }
  return text;
}

class DiskJudgesTest : public ::testing::TestWithParam<Judged> {};

TEST_P(DiskJudgesTest, FioXfsAndExt4FindNoFault) {
  if (RuntimePath("guest_kernel").empty()) GTEST_SKIP() << "run ./bazelw once";
  const Judged& judged = GetParam();
  ScratchDirectory scratch;
  const std::string small = scratch.path() + "/small.qcow2";
  const std::string large = scratch.path() + "/large.img";
  // As small as mkfs.xfs allows.
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + small + " 320M").c_str()),
            0);
  std::ofstream(large).close();
  std::filesystem::resize_file(large, 320 << 20);
  const std::string description = scratch.path() + "/vm.textproto";
  std::ofstream(description)
      << "access_deadline_ms: 5000\n"
      << "machine { type: Q35 accel: TCG memory: \"768MiB\" vcpus: "
      << judged.vcpus << " }\n"
      << "boot { kernel: \"" << RuntimePath("guest_kernel") << "\" initrd: \""
      << std::filesystem::absolute("tools/guest/judges_initrd.cpio").string()
      << "\"\n cmdline: \"console=ttyS0 quiet panic=-1 "
      << "bulkhead.script=disk_judges " << judged.words << "\" }\n"
      << "devices { id: \"disk0\" "
      << Replace(Replace(judged.devices, "$SMALL", small), "$LARGE", large)
      << " }\n";

  Process vm({"launcher/vm", "--config=" + description});
  EXPECT_TRUE(
      vm.WaitFor("BULKHEAD-SCRIPT name=disk_judges result=ok", kJudgement))
      << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + small).c_str()), 0);
}

INSTANTIATE_TEST_SUITE_P(, DiskJudgesTest, ::testing::ValuesIn(kJudged),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bulkhead::testing

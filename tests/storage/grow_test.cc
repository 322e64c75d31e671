// A disk that becomes longer under the steady filter, from the launcher's frame
// to the guest's configuration space; and the user's own way to ask for it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "policy/virtio_blk.h"
#include "services/block/qcow2/qemu_tools.h"
#include "tests/storage/jailed_disk.h"
#include "tests/support/process.h"

namespace bulkhead {
namespace {

using block::qcow2::CheckComplaint;
using block::qcow2::ImageDirectory;
using block::qcow2::QemuImg;
using testing::Process;
using testing::Seconds;

constexpr uint64_t kMiB = 1 << 20;
constexpr Seconds kPatience{20};
constexpr char kLosetup[] = "/usr/sbin/losetup";

// Short, for sockets lie in it.
class RunDirectory {
 public:
  RunDirectory() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~RunDirectory() { rmdir(path_.c_str()); }
  std::string flag() const { return "--runtime_dir=" + path_; }

 private:
  std::string path_ = "/tmp/bulkhead-grow-XXXXXX";
};

struct Kind {
  const char* name;
  const char* create;
  ImageFormat format;
};

class GrowTest : public ::testing::TestWithParam<Kind> {
 protected:
  std::string Create() {
    const std::string path = images_.Path("disk");
    QemuImg(std::string("create -q ") + GetParam().create + " " + path + " 4M");
    return path;
  }

  ImageDirectory images_;
};

TEST_P(GrowTest, JailedServiceGrowsItsDiskAndItsGuestSeesIt) {
  const std::string path = Create();
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ServiceConfig config;
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(7);
  backend->mutable_image()->set_format(GetParam().format);
  JailedDisk disk(policy::VirtioBlk(), config, {fd});
  close(fd);
  ASSERT_EQ(disk.fault(), "");
  ASSERT_EQ(disk.Write(3 * kMiB, std::string(4096, 'a')), 0);
  EXPECT_NE(disk.Write(8 * kMiB, std::string(4096, 'b')), 0);
  const Ack ack = disk.Grow(0, 64 * kMiB);
  EXPECT_EQ(ack.error(), OK) << ack.message();
  EXPECT_EQ(disk.capacity_bytes(), 64 * kMiB);
  EXPECT_EQ(disk.Write(63 * kMiB, std::string(4096, 'b')), 0);
  EXPECT_EQ(disk.Flush(), 0);
  EXPECT_EQ(disk.Read(3 * kMiB, 4096), std::string(4096, 'a'));
  EXPECT_EQ(disk.Read(63 * kMiB, 4096), std::string(4096, 'b'));
  // What makes no sense changes nothing, and is told.
  EXPECT_EQ(disk.Grow(0, kMiB).error(), INVALID_ARGUMENT);
  EXPECT_EQ(disk.Grow(1, 128 * kMiB).error(), OUT_OF_RANGE);
  EXPECT_EQ(disk.rig().Finish(), 0);
  if (GetParam().format == QCOW2) {
    EXPECT_EQ(CheckComplaint(path), "");
  }
}

TEST_P(GrowTest, UserGrowsADiskOfARunningVm) {
  const std::string path = Create();
  const RunDirectory run;
  const std::string vm_name = std::string("grow-") + GetParam().name;
  Process vm({"launcher/vm", "--no_qemu", "--name=" + vm_name, "--memory=64MiB",
              run.flag(), "--device=virtio_blk,id=vda",
              "--disk=vda,file=" + path +
                  ",format=" + (GetParam().format == QCOW2 ? "qcow2" : "raw")});
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", kPatience)) << vm.output();
  Process refused({"tools/grow_disk/grow_disk", vm_name, "vda", "1MiB"});
  EXPECT_EQ(refused.Wait(kPatience), 1);
  EXPECT_NE(refused.output().find("it can only become longer"),
            std::string::npos)
      << refused.output();
  Process unknown({"tools/grow_disk/grow_disk", vm_name, "vdb", "1GiB"});
  EXPECT_EQ(unknown.Wait(kPatience), 1);
  EXPECT_NE(unknown.output().find("no such device"), std::string::npos)
      << unknown.output();
  Process grown({"tools/grow_disk/grow_disk", vm_name, "vda", "256MiB"});
  EXPECT_EQ(grown.Wait(kPatience), 0) << grown.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kPatience), 0) << vm.output();
  const std::string info =
      block::qcow2::RunTool({"qemu-img", "info", path}).output;
  EXPECT_NE(info.find("virtual size: 256 MiB"), std::string::npos) << info;
}

INSTANTIATE_TEST_SUITE_P(
    , GrowTest,
    ::testing::Values(Kind{"raw", "-f raw", RAW},
                      Kind{"qcow2", "-f qcow2", QCOW2},
                      Kind{"small", "-f qcow2 -o cluster_size=512", QCOW2}),
    [](const auto& info) { return info.param.name; });

// A logical volume that its owner makes longer, as a loop device.
TEST(GrowDiskToolTest, BlockDeviceThatWasMadeLongerIsTakenUp) {
  if (geteuid() != 0) GTEST_SKIP() << "only root makes loop devices";
  ImageDirectory images;
  const std::string file = images.Path("volume");
  QemuImg("create -q -f raw " + file + " 4M");
  std::string device =
      block::qcow2::RunTool({kLosetup, "-f", "--show", file}).output;
  if (device.find("/dev/") != 0) GTEST_SKIP() << "no loop device here";
  device.pop_back();  // the newline
  {
    const RunDirectory run;
    Process vm({"launcher/vm", "--no_qemu", "--name=grow-device",
                "--memory=64MiB", run.flag(), "--device=virtio_blk,id=vda",
                "--disk=vda,file=" + device + ",format=raw"});
    EXPECT_TRUE(vm.WaitFor("waiting for QEMU", kPatience)) << vm.output();
    const std::vector<std::string> grow = {"tools/grow_disk/grow_disk",
                                           "grow-device", "vda", "8MiB"};
    Process early(grow);
    EXPECT_EQ(early.Wait(kPatience), 1);
    EXPECT_NE(early.output().find("device is shorter"), std::string::npos)
        << early.output();
    EXPECT_EQ(truncate(file.c_str(), 8 * kMiB), 0);
    EXPECT_EQ(block::qcow2::RunTool({kLosetup, "-c", device}).exit_status, 0);
    Process grown(grow);
    EXPECT_EQ(grown.Wait(kPatience), 0) << grown.output();
    vm.Signal(SIGTERM);
    EXPECT_EQ(vm.Wait(kPatience), 0) << vm.output();
  }
  EXPECT_EQ(block::qcow2::RunTool({kLosetup, "-d", device}).exit_status, 0);
}

// The answer to a request whose sender has left is nobody's.
TEST(GrowDiskToolTest, OnlyTheAnswerToOnesOwnRequestIsTold) {
  ImageDirectory images;
  const std::string file = images.Path("disk");
  QemuImg("create -q -f raw " + file + " 4M");
  const RunDirectory run;
  Process vm({"launcher/vm", "--no_qemu", "--name=grow-twice", "--memory=64MiB",
              run.flag(), "--device=virtio_blk,id=vda",
              "--disk=vda,file=" + file + ",format=raw"});
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", kPatience)) << vm.output();
  const pid_t service = testing::FindByCommand(vm.Descendants(), "virtio_blk");
  ASSERT_GT(service, 0);
  ASSERT_EQ(kill(service, SIGSTOP), 0);
  {
    Process given_up(
        {"tools/grow_disk/grow_disk", "grow-twice", "vda", "1MiB"});
    given_up.Drain(Seconds(1));
    EXPECT_TRUE(given_up.running());
  }
  Process grown({"tools/grow_disk/grow_disk", "grow-twice", "vda", "8MiB"});
  grown.Drain(Seconds(1));
  ASSERT_EQ(kill(service, SIGCONT), 0);
  EXPECT_EQ(grown.Wait(kPatience), 0) << grown.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kPatience), 0) << vm.output();
}

TEST(GrowDiskToolTest, VmThatDoesNotRunIsNamed) {
  Process tool({"tools/grow_disk/grow_disk", "nowhere", "vda", "256MiB"});
  EXPECT_EQ(tool.Wait(kPatience), 1);
  EXPECT_NE(tool.output().find("no VM \"nowhere\" runs here"),
            std::string::npos)
      << tool.output();
}

}  // namespace
}  // namespace bulkhead

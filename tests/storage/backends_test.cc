// The real service under the policies that its disks ask for: an NBD server
// that is killed and comes back, and io_uring. A call that the policy lacks
// would kill the service, and the test with it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "policy/virtio_blk.h"
#include "policy/virtio_blk_nbd.h"
#include "policy/virtio_blk_uring.h"
#include "services/block/nbd/server_rig.h"
#include "services/block/qcow2/qemu_tools.h"
#include "tests/storage/jailed_disk.h"

namespace bulkhead {
namespace {

using block::nbd::Connector;
using block::nbd::ConnectToUnix;
using block::nbd::ServerProcess;
using block::nbd::Shell;

TEST(BackendsTest, NbdServerMayDieAndReturnUnderTheSteadyFilter) {
  const std::string directory = block::nbd::TemporaryDirectory();
  const std::string socket = directory + "/s";
  const std::string file = directory + "/disk";
  Shell("truncate -s 16M " + file);
  ServerProcess server({"nbdkit", "-f", "-U", socket, "file", file}, socket);
  server.Start();
  {
    Connector connector([&] { return ConnectToUnix(socket); });
    ServiceConfig config;
    NbdConfig* nbd = config.add_backends()->mutable_nbd();
    nbd->set_connector_fd(7);
    nbd->set_name("nbd+unix:///?socket=s");
    nbd->set_block_bytes(512);
    JailedDisk disk(policy::VirtioBlkNbd(), config, {connector.service_end()});
    ASSERT_EQ(disk.fault(), "");
    for (int round = 0; round < 5; ++round) {
      const uint64_t at = static_cast<uint64_t>(round) << 20;
      const std::string data(64 << 10, static_cast<char>('a' + round));
      ASSERT_EQ(disk.Write(at, data), 0);
      ASSERT_EQ(disk.Flush(), 0);
      server.Kill();
      server.Start();
      ASSERT_TRUE(disk.Read(at, 64 << 10) == data) << round;
    }
    EXPECT_GE(connector.connections(), 6);
    EXPECT_EQ(disk.rig().Finish(), 0);
  }
  server.Kill();
  Shell("rm -rf " + directory);
}

TEST(BackendsTest, PlainPolicyHasNoSocketsForAnNbdDisk) {
  ServiceConfig config;
  config.add_backends()->mutable_nbd()->set_connector_fd(7);
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  JailedDisk disk(policy::VirtioBlk(), config, {nothing});
  // It does not get as far as serving: the connector is none.
  EXPECT_NE(disk.fault(), "");
  close(nothing);
}

// An image as qemu-img makes it does not end with a block; nor does one of
// small clusters after its end was trimmed.
TEST(BackendsTest, DirectQcow2ImageMayHaveAnySizeAndDirectRawDiskMayNot) {
  block::qcow2::ImageDirectory images;
  const std::string path = images.Path("disk.qcow2");
  block::qcow2::QemuImg("create -q -f qcow2 -o cluster_size=512 " + path +
                        " 16M");
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  ASSERT_NE(status.st_size % 4096, 0);
  for (const char byte : {'a', 'b'}) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fcntl(fd, F_SETFL, O_RDWR | O_DIRECT) != 0) GTEST_SKIP();
    ServiceConfig config;
    BackendConfig* backend = config.add_backends();
    backend->mutable_image()->set_fd(7);
    backend->mutable_image()->set_format(QCOW2);
    backend->set_direct_alignment_bytes(4096);
    JailedDisk disk(policy::VirtioBlk(), config, {fd});
    ASSERT_EQ(disk.fault(), "");
    const std::string data(512, byte);
    ASSERT_EQ(disk.Write(5 * 512, data), 0);
    EXPECT_EQ(disk.Read(5 * 512, 512), data);
    EXPECT_EQ(disk.Read(6 * 512, 512), std::string(512, '\0'));
    EXPECT_EQ(disk.rig().Finish(), 0);
    close(fd);
    EXPECT_EQ(block::qcow2::CheckComplaint(path), "");
  }
  const std::string raw = images.Path("raw");
  block::qcow2::QemuImg("create -q -f raw " + raw + " 1025K");
  const int fd = open(raw.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
  ServiceConfig config;
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(7);
  backend->mutable_image()->set_format(RAW);
  backend->set_direct_alignment_bytes(4096);
  JailedDisk disk(policy::VirtioBlk(), config, {fd});
  EXPECT_NE(disk.fault().find("is not a multiple of 4096 bytes; qemu-img"),
            std::string::npos)
      << disk.fault();
  close(fd);
}

class UringTest : public testing::TestWithParam<bool> {};

TEST_P(UringTest, RequestsGoThroughTheRingUnderTheSteadyFilter) {
  std::string path = std::string(getenv("TEST_TMPDIR")) + "/disk-XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_EQ(ftruncate(fd, 16 << 20), 0);
  ServiceConfig config;
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(7);
  backend->mutable_image()->set_format(RAW);
  backend->set_engine(IO_URING);
  if (GetParam()) {
    if (fcntl(fd, F_SETFL, O_RDWR | O_DIRECT) != 0) GTEST_SKIP();
    backend->set_direct_alignment_bytes(512);
  }
  JailedDisk disk(policy::VirtioBlkUring(), config, {fd});
  ASSERT_EQ(disk.fault(), "");
  for (uint64_t i = 0; i < 64; ++i) {
    const std::string data(16 << 10, static_cast<char>('a' + i % 26));
    ASSERT_EQ(disk.Write(i << 14, data), 0);
    if (i % 8 == 0) {
      ASSERT_EQ(disk.Flush(), 0);
      posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    ASSERT_TRUE(disk.Read(i << 14, 16 << 10) == data) << i;
  }
  EXPECT_EQ(disk.rig().Finish(), 0);
  close(fd);
  unlink(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(Cache, UringTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "direct" : "buffered";
                         });

}  // namespace
}  // namespace bulkhead

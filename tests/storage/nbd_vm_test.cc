// A VM with a disk on an NBD server, as `vm` starts it: connector and service
// in their jails, and the server killed and started again behind them. QEMU is
// not needed for it.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "services/block/nbd/server_rig.h"
#include "tests/support/process.h"

namespace bulkhead {
namespace {

using block::nbd::ServerProcess;
using block::nbd::Shell;
using testing::Process;
using testing::Seconds;

constexpr Seconds kPatience{20};

class NbdVmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = block::nbd::TemporaryDirectory();
    socket_ = directory_ + "/nbd.sock";
    Shell("truncate -s 16M " + directory_ + "/disk");
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"nbdkit", "-f", "-U", socket_, "file",
                                 directory_ + "/disk"},
        socket_);
  }
  void TearDown() override {
    server_.reset();
    Shell("rm -rf " + directory_);
  }

  // No process of a VM is root: the way to the socket, and it, are for all.
  void Start(ServerProcess* server) const {
    server->Start();
    ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
    ASSERT_EQ(chmod(socket_.c_str(), 0777), 0);
  }

  std::vector<std::string> Command(const std::string& uri) const {
    return {"launcher/vm",
            "--no_qemu",
            "--memory=64MiB",
            "--runtime_dir=" + directory_ + "/run",
            "--device=lsi53c895a,id=lsi0",
            "--disk=lsi0:0,nbd=" + uri};
  }

  std::string directory_;
  std::string socket_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(NbdVmTest, ServerThatReturnsIsConnectedToAgain) {
  Start(server_.get());
  Process vm(Command("nbd+unix:///?socket=" + socket_));
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", kPatience)) << vm.output();
  server_->Kill();
  Start(server_.get());
  EXPECT_TRUE(vm.WaitFor("connected to nbd+unix", kPatience)) << vm.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kPatience), 0) << vm.output();
}

TEST_F(NbdVmTest, ServerThatIsNotThereIsAnErrorAtItsField) {
  Process vm(Command("nbd+unix:///?socket=" + socket_));
  EXPECT_EQ(vm.Wait(kPatience), 64);
  EXPECT_NE(vm.output().find("BH-C113"), std::string::npos) << vm.output();
}

TEST_F(NbdVmTest, ReadOnlyExportForAWritableDiskIsToldInWords) {
  ServerProcess other(
      {"nbdkit", "-f", "-U", socket_, "-r", "file", directory_ + "/disk"},
      socket_);
  Start(&other);
  Process vm(Command("nbd+unix:///?socket=" + socket_));
  EXPECT_EQ(vm.Wait(kPatience), 64);
  EXPECT_NE(vm.output().find("read-only"), std::string::npos) << vm.output();
}

}  // namespace
}  // namespace bulkhead

// The audit of a whole VM while its firmware runs: QEMU, the console, our
// services with every kind of disk and their shims, what connects to an NBD
// server, a remote process of QEMU's own and its adapter, and the launcher.

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/block/nbd/server_rig.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

using block::nbd::ServerProcess;
using block::nbd::Shell;

class RunningVmAuditTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
    server_.Start();
    // No process of a VM is root: the way to the socket, and it, are for all.
    ASSERT_EQ(chmod(scratch_.path().c_str(), 0755), 0);
    ASSERT_EQ(chmod(socket_.c_str(), 0777), 0);
    Shell("qemu-img create -q -f qcow2 " + scratch_.path() + "/disk.qcow2 64M");
    for (const char* disk : {"/disk.raw", "/remote.raw"}) {
      Shell("truncate -s 16M " + scratch_.path() + disk);
    }
    const std::string config = scratch_.path() + "/vm.textproto";
    std::ofstream(config)
        << "name: \"audited\" machine { memory: \"64MiB\" }\n"
        << "access_deadline_ms: 2000\n"
        << "devices { id: \"lsi0\" lsi53c895a { target { disk { format: RAW "
        << "image: \"" << scratch_.path() << "/disk.raw\" } } } }\n"
        << "devices { id: \"nvme0\" nvme { namespace { nbd { uri: "
        << "\"nbd+unix:///?socket=" << socket_ << "\" } } } }\n"
        << "devices { id: \"disk0\" virtio_blk { disk { engine: IO_URING "
        << "format: QCOW2 image: \"" << scratch_.path()
        << "/disk.qcow2\" } } }\n"
        << "devices { id: \"old0\" qemu_remote {\n"
        << "  args: \"-device\" args: \"lsi53c895a,id=old0\"\n"
        << "  args: \"-drive\"\n"
        << "  args: \"id=drive0,if=none,format=raw,file={disk}\"\n"
        << "  args: \"-device\"\n"
        << "  args: \"scsi-hd,drive=drive0,bus=old0.0,scsi-id=0\"\n"
        << "  image { name: \"disk\" image: \"" << scratch_.path()
        << "/remote.raw\" } } }\n";
    vm_ = std::make_unique<Process>(std::vector<std::string>{
        "launcher/vm", "--config=" + config, "--accel=tcg"});
    // The firmware has found all disks, and reads them.
    ASSERT_TRUE(vm_->WaitFor("Booting from", Seconds(120))) << vm_->output();
  }

  void TearDown() override {
    if (vm_ == nullptr) return;
    vm_->EndAtOnce();
    vm_->Wait(Seconds(30));
  }

  // What the audit says, check by check; its exit status.
  int Audit(nlohmann::json* report) {
    Process audit({"policy/audit", "audited", "--format=json"});
    const int status = audit.Wait(Seconds(60));
    *report = nlohmann::json::parse(audit.output(), nullptr, false);
    EXPECT_TRUE(report->is_array()) << audit.output();
    return status;
  }

  ScratchDirectory scratch_;
  const std::string socket_ = scratch_.path() + "/nbd.sock";
  ServerProcess server_{{"nbdkit", "-f", "-U", socket_, "memory", "16M"},
                        socket_};
  std::unique_ptr<Process> vm_;
};

TEST_F(RunningVmAuditTest, EveryProcessIsWhatItsPolicySaysFiltersIncluded) {
  nlohmann::json report;
  EXPECT_EQ(Audit(&report), 0);
  std::map<std::string, int> processes;
  std::map<std::string, int> filters;
  for (const nlohmann::json& finding : report) {
    const std::string policy = finding["policy"];
    const std::string check = finding["check"];
    EXPECT_NE(finding["result"], "DRIFT") << finding.dump();
    processes[policy] += check == "no_new_privs";
    filters[policy] += (check == "launch filter" || check == "steady filter") &&
                       finding["result"] == "ok";
    if (policy == "launcher") ++processes[policy];
  }
  // Two filters for what locks itself down, one for QEMU's.
  const std::map<std::string, int> kEach = {
      {"console", 2},          {"qemu", 1},
      {"lsi53c895a", 2},       {"shim", 6},
      {"nvme_nbd", 2},         {"connector", 2},
      {"virtio_blk_uring", 2}, {"x_remote_adapter", 2},
      {"qemu_remote", 1}};
  for (const auto& [policy, count] : kEach) {
    EXPECT_GE(processes[policy], 1) << policy;
    if (geteuid() == 0) {
      EXPECT_EQ(filters[policy], count) << policy;
    }
  }
  EXPECT_GE(processes["launcher"], 1);
  // Being looked at did it no harm.
  EXPECT_TRUE(vm_->WaitFor("No bootable device", Seconds(60))) << vm_->output();
  EXPECT_TRUE(vm_->running());
}

TEST_F(RunningVmAuditTest,
       ALimitThatIsRaisedMeanwhileIsFoundInTheRightProcess) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can raise it";
  const pid_t service = FindByCommand(vm_->Descendants(), "lsi53c895a lsi0");
  ASSERT_GT(service, 0);
  const rlimit more = {.rlim_cur = 5000, .rlim_max = 5000};
  if (prlimit(service, RLIMIT_NOFILE, &more, nullptr) != 0) {
    GTEST_SKIP() << "this root lacks CAP_SYS_RESOURCE";
  }
  nlohmann::json report;
  EXPECT_EQ(Audit(&report), 1);
  for (const nlohmann::json& finding : report) {
    if (finding["result"] != "DRIFT") continue;
    EXPECT_EQ(finding["pid"], service) << finding.dump();
    EXPECT_EQ(finding["check"], "RLIMIT_NOFILE") << finding.dump();
  }
}

// A VM that boots a kernel, as the demo does: QEMU has the files as sealed
// copies that it can only read.
TEST(BootedKernelAuditTest, NothingHasDriftedInAVmThatBootsAKernel) {
  const std::string kernel = RuntimePath("guest_kernel");
  if (RuntimePath("qemu").empty() || kernel.empty()) {
    GTEST_SKIP() << "run ./bazelw once";
  }
  ScratchDirectory scratch;
  Shell("truncate -s 16M " + scratch.path() + "/disk.raw");
  Process vm({"launcher/vm", "--name=booted", "--accel=tcg", "--memory=128MiB",
              "--kernel=" + kernel, "--initrd=" + scratch.path() + "/disk.raw",
              "--append=console=ttyS0", "--device=lsi53c895a,id=lsi0",
              "--disk=lsi0:0,format=raw,file=" + scratch.path() + "/disk.raw"});
  ASSERT_TRUE(vm.WaitFor("Linux version", Seconds(120))) << vm.output();
  Process audit({"policy/audit", "booted"});
  EXPECT_EQ(audit.Wait(Seconds(60)), 0) << audit.output();
  vm.EndAtOnce();
  vm.Wait(Seconds(30));
}

// A QEMU that opens /dev/kvm by itself finds a node of its own, and no other
// device: as root, one that nobody else can open.
TEST(OldQemuAuditTest, KvmIsTheOnlyDeviceNodeThatAnOldQemuSees) {
  const std::string version = RuntimePath("system_qemu_version");
  if (version.empty() || version[0] < '5' || version[0] > '7') {
    GTEST_SKIP() << "the distribution's QEMU is not older than 8.2";
  }
  if (access("/dev/kvm", R_OK | W_OK) != 0) {
    GTEST_SKIP() << "/dev/kvm: not usable on this machine";
  }
  ScratchDirectory scratch;
  Shell("truncate -s 16M " + scratch.path() + "/disk.raw");
  Process vm({"launcher/vm", "--name=old", "--accel=kvm", "--memory=64MiB",
              "--qemu=" + RuntimePath("system_qemu"),
              "--device=lsi53c895a,id=lsi0",
              "--disk=lsi0:0,format=raw,file=" + scratch.path() + "/disk.raw"});
  const bool booted = vm.WaitFor("Booting from", Seconds(120));
  if (vm.output().find("error BH-Q307") != std::string::npos) {
    GTEST_SKIP() << vm.output();
  }
  ASSERT_TRUE(booted) << vm.output();
  Process audit({"policy/audit", "old", "--format=json"});
  EXPECT_EQ(audit.Wait(Seconds(60)), 0) << audit.output();
  const nlohmann::json report =
      nlohmann::json::parse(audit.output(), nullptr, false);
  ASSERT_TRUE(report.is_array()) << audit.output();
  std::map<std::string, std::string> nodes;
  for (const nlohmann::json& finding : report) {
    if (finding["check"] == "device nodes" && finding["result"] == "ok") {
      nodes[finding["policy"]] = finding["observed"];
    }
  }
  EXPECT_EQ(nodes["lsi53c895a"], "none");
  EXPECT_EQ(nodes["shim"], "none");
  if (geteuid() == 0) {
    EXPECT_THAT(nodes["qemu"],
                ::testing::MatchesRegex("/dev/kvm 10:232 0600 of [1-9].*"));
  } else {
    EXPECT_THAT(nodes["qemu"], ::testing::StartsWith("/dev/kvm 10:232 "));
  }
  vm.EndAtOnce();
  vm.Wait(Seconds(30));
}

}  // namespace
}  // namespace bulkhead::testing

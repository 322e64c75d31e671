// Whatever ends first, everything ends, and nothing is left behind: no process,
// no socket, and the terminal is as it was.

#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kStart(90);
constexpr Seconds kEnd(60);

// Sockets of VMs that are starting elsewhere live for a moment in /tmp; what
// stays is what counts.
int SocketFolders() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/tmp")) {
    count += entry.path().filename().string().rfind("bulkhead-", 0) == 0;
  }
  return count;
}

class LifecycleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
    disk_ = scratch_.path() + "/disk.qcow2";
    ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + disk_ + " 64M").c_str()),
              0);
  }

  // No kernel: the firmware finds nothing to boot and waits.
  std::vector<std::string> Command(const std::string& more = "--grace=0") {
    return {"launcher/vm",
            "--accel=tcg",
            "--memory=64MiB",
            "--device=lsi53c895a,id=lsi0",
            "--disk=lsi0:0,format=qcow2,file=" + disk_,
            more};
  }

  // Waits until all is up; remembers who is there.
  void Start(Process* vm) {
    ASSERT_TRUE(vm->WaitFor("the machine is built", kStart)) << vm->output();
    all_ = vm->Descendants();
    ASSERT_EQ(all_.size(), 4u) << vm->output();
  }

  void KillConsole() {
    for (const pid_t pid : all_) {
      if (CommandLine(pid).rfind("console", 0) == 0) kill(pid, SIGKILL);
    }
  }

  void ExpectNothingLeft() {
    EXPECT_TRUE(AllGone(all_, Seconds(10)));
    EXPECT_LE(SocketFolders(), folders_before_);
    // Its lock is gone: anyone may write to it again.
    EXPECT_EQ(system(("qemu-img check -q " + disk_).c_str()), 0);
    EXPECT_EQ(
        system(("qemu-io -f qcow2 -c 'write 0 64k' " + disk_ + " >/dev/null")
                   .c_str()),
        0);
  }

  ScratchDirectory scratch_;
  std::string disk_;
  std::vector<pid_t> all_;
  const int folders_before_ = SocketFolders();
};

TEST_F(LifecycleTest, TerminatedLauncherEndsAllAndSucceeds) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Process vm(Command());
    ASSERT_NO_FATAL_FAILURE(Start(&vm));
    vm.Signal(signal);
    EXPECT_EQ(vm.Wait(kEnd), signal == SIGHUP ? 129 : 0) << vm.output();
    ExpectNothingLeft();
  }
}

TEST_F(LifecycleTest, ReaderThatLeavesEndsTheVmAndIsNamed) {
  std::string command;
  for (const std::string& argument : Command()) command += argument + " ";
  const std::string log = scratch_.path() + "/log";
  Process vm({"/bin/bash", "-c",
              command + "2>" + log + " | head -c 1 >/dev/null; " +
                  "status=$?${PIPESTATUS[0]}; cat " + log +
                  "; exit ${status#0}"});
  EXPECT_EQ(vm.Wait(kEnd), 129) << vm.output();
  EXPECT_NE(vm.output().find("error BH-D404: the guest's terminal"),
            std::string::npos)
      << vm.output();
  ExpectNothingLeft();
}

// What `vm` opens next would take their numbers, a disk perhaps.
TEST_F(LifecycleTest, ClosedStandardStreamsAreNothingElse) {
  std::string command = "exec";
  for (const std::string& argument : Command()) command += " " + argument;
  Process vm({"/bin/sh", "-c", command + " <&- >&- 2>&-"});
  std::vector<pid_t> all;
  for (int i = 0; i < 300 && all.size() < 4; ++i) {
    vm.Drain(Seconds(0.1));
    all = vm.Descendants();
  }
  ASSERT_EQ(all.size(), 4u);
  for (const char* stream : {"0", "1", "2"}) {
    const std::string link =
        "/proc/" + std::to_string(vm.pid()) + "/fd/" + stream;
    EXPECT_EQ(std::filesystem::read_symlink(link), "/dev/null");
  }
  vm.Signal(SIGTERM);
  // 4: QEMU was still building its machine, which nobody can read here.
  const int status = vm.Wait(kEnd);
  EXPECT_TRUE(status == 0 || status == 4) << status;
  EXPECT_TRUE(AllGone(all, Seconds(10)));
}

TEST_F(LifecycleTest, KilledLauncherTakesEverythingWithIt) {
  Process vm(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  vm.Signal(SIGKILL);
  EXPECT_EQ(vm.Wait(kEnd), 128 + SIGKILL);
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, KilledQemuIsReported) {
  Process vm(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  ASSERT_TRUE(SignalByCommand(all_, "qemu-system", SIGKILL));
  EXPECT_EQ(vm.Wait(kEnd), 33) << vm.output();
  EXPECT_NE(vm.output().find("QEMU was killed by signal 9"), std::string::npos)
      << vm.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, VmOutlivesItsDeviceAndTellsOfIt) {
  Process vm(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  ASSERT_TRUE(SignalByCommand(all_, "lsi53c895a", SIGKILL));
  EXPECT_TRUE(
      vm.WaitFor("DEVICE LOST lsi0: lsi0 was killed by signal 9", Seconds(20)))
      << vm.output();
  const pid_t qemu = FindByCommand(all_, "qemu-system");
  ASSERT_GT(qemu, 0);
  vm.Drain(Seconds(1));
  EXPECT_TRUE(vm.running());
  EXPECT_EQ(kill(qemu, 0), 0);
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kEnd), 70) << vm.output();
  ExpectNothingLeft();
}

// While nobody asks it for anything: a QEMU that waits for its answer aborts.
TEST_F(LifecycleTest, KilledShimIsADeviceLostToo) {
  Process vm(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  ASSERT_TRUE(vm.WaitFor("No bootable device", kStart)) << vm.output();
  ASSERT_TRUE(SignalByCommand(all_, "shim", SIGKILL));
  EXPECT_TRUE(vm.WaitFor("DEVICE LOST lsi0: lsi0.shim", Seconds(20)))
      << vm.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kEnd), 70) << vm.output();
  ExpectNothingLeft();
}

// Whoever speaks to people is needed: the VM does not go on in silence.
TEST_F(LifecycleTest, KilledConsoleEndsTheVm) {
  Process vm(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  KillConsole();
  EXPECT_EQ(vm.Wait(kEnd), 1) << vm.output();
  EXPECT_NE(vm.output().find("the console process ended"), std::string::npos)
      << vm.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, GuestThatIgnoresThePowerButtonGetsItsGrace) {
  Process vm(Command("--grace=2"));
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  vm.Signal(SIGTERM);
  EXPECT_TRUE(vm.WaitFor("asking the guest to power off (2 s", Seconds(20)))
      << vm.output();
  EXPECT_EQ(vm.Wait(kEnd), 0) << vm.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, ControlAXEndsTheVmFromATerminal) {
  Process vm(Command(), Process::Console::kTerminal);
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  ASSERT_TRUE(vm.WaitFor("Ctrl-A X quits", kStart)) << vm.output();
  vm.Type("\x01h");
  EXPECT_TRUE(vm.WaitFor("Ctrl-A H  this help", Seconds(20))) << vm.output();
  vm.Type("\x01x");
  EXPECT_EQ(vm.Wait(kEnd), 0) << vm.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, ClosedTerminalEndsTheVm) {
  Process vm(Command("--grace=30"), Process::Console::kTerminal);
  ASSERT_NO_FATAL_FAILURE(Start(&vm));
  ASSERT_TRUE(vm.WaitFor("Ctrl-A X quits", kStart)) << vm.output();
  vm.CloseTerminal();
  vm.Wait(kEnd);
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, ConsoleKilledWhileStartingIsNotTheUsersStop) {
  Process vm(Command());
  ASSERT_TRUE(vm.WaitFor("[1/3]", kStart)) << vm.output();
  all_ = vm.Descendants();
  KillConsole();
  EXPECT_EQ(vm.Wait(kEnd), 1) << vm.output();
  EXPECT_NE(vm.output().find("the console process ended"), std::string::npos)
      << vm.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, StoppedWhileStartingLeavesNothing) {
  Process vm(Command());
  ASSERT_TRUE(vm.WaitFor("[1/3]", kStart)) << vm.output();
  all_ = vm.Descendants();
  vm.Signal(SIGTERM);
  EXPECT_NE(vm.Wait(kEnd), -1) << vm.output();
  ExpectNothingLeft();
}

// From the first socket on there is something to take away, whoever has the
// process at that moment: `vm`, the launcher, or the exec between them.
TEST_F(LifecycleTest, StoppedAtAnyMomentLeavesNoRuntimeDirectory) {
  const std::string directory = scratch_.path() + "/run";
  for (int i = 0; i < 25; ++i) {
    std::vector<std::string> command = Command("--no_qemu");
    command.push_back("--runtime_dir=" + directory);
    Process vm(command);
    vm.Drain(Seconds(0.004 * i));
    vm.Signal(SIGTERM);
    EXPECT_NE(vm.Wait(kEnd), -1) << vm.output();
    EXPECT_FALSE(std::filesystem::exists(directory)) << i << vm.output();
  }
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, DiskInUseIsRefused) {
  Process first(Command());
  ASSERT_NO_FATAL_FAILURE(Start(&first));
  // By another VM, and by QEMU's own tools.
  Process second(Command());
  EXPECT_EQ(second.Wait(kEnd), 64) << second.output();
  EXPECT_NE(second.output().find("is in use by another program"),
            std::string::npos)
      << second.output();
  EXPECT_NE(
      system(("qemu-img info " + disk_ + " >/dev/null 2>/dev/null").c_str()),
      0);
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait(kEnd), 0) << first.output();
  ExpectNothingLeft();
}

TEST_F(LifecycleTest, RuntimeDirectoryInUseIsRefusedAndEmptiedAtTheEnd) {
  const std::string directory = scratch_.path() + "/run";
  const std::string disk2 = scratch_.path() + "/disk2.qcow2";
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + disk2 + " 64M").c_str()),
            0);
  std::vector<std::string> command = Command("--no_qemu");
  command.push_back("--runtime_dir=" + directory);
  Process vm(command);
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", kStart)) << vm.output();
  all_ = vm.Descendants();
  const auto socket = std::filesystem::status(directory + "/lsi0.sock");
  EXPECT_EQ(socket.type(), std::filesystem::file_type::socket);
  EXPECT_EQ(socket.permissions(), std::filesystem::perms::owner_read |
                                      std::filesystem::perms::owner_write);
  EXPECT_TRUE(std::filesystem::exists(directory + "/ram"));

  command[4] = "--disk=lsi0:0,format=qcow2,file=" + disk2;
  Process second(command);
  EXPECT_EQ(second.Wait(kEnd), 64) << second.output();
  EXPECT_NE(second.output().find("another VM is using it"), std::string::npos)
      << second.output();

  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kEnd), 0) << vm.output();
  EXPECT_FALSE(std::filesystem::exists(directory));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace bulkhead::testing

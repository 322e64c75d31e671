// The four ways of taking an lsi53c895a out of QEMU: {our service, QEMU's own
// remote process} behind {vfio-user-pci, x-pci-proxy-dev}, with each QEMU and
// accelerator that is there. A boot sector in 16-bit code is the guest, so this
// runs under KVM even where KVM takes no 64-bit code.

#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/guest/boot_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"
#include "tests/support/qmp.h"

namespace bulkhead::testing {
namespace {

using Ending = BootImage::Ending;
constexpr Seconds kBoot(90);
constexpr int kDeadlineMs = 2000;
constexpr int kConsoleMonitorFd = 5;  // console/console_fds.h

enum class Device { kOurs, kRemote };
enum class FrontEnd { kVfioUser, kProxy };
enum class Qemu { kNew, kSystem };
enum class Accel { kTcg, kKvm };

struct Way {
  Device device;
  FrontEnd front_end;
  Qemu qemu;
  Accel accel;
};

std::string NameOf(const Way& way) {
  return std::string(way.device == Device::kOurs ? "Ours" : "Remote") +
         (way.front_end == FrontEnd::kVfioUser ? "VfioUser" : "Proxy") +
         (way.qemu == Qemu::kNew ? "NewQemu" : "SystemQemu") +
         (way.accel == Accel::kTcg ? "Tcg" : "Kvm");
}

void PrintTo(const Way& way, std::ostream* out) { *out << NameOf(way); }

// An lsi53c895a in a remote process of QEMU's own, as a description names it.
std::string RemoteDevice(const BootImage& image) {
  return "  qemu_remote {\n"
         "    args: \"-device\" args: \"lsi53c895a,id=lsi0\"\n"
         "    args: \"-drive\"\n"
         "    args: \"id=drive0,if=none,format=raw,file={disk}\"\n"
         "    args: \"-device\"\n"
         "    args: \"scsi-hd,drive=drive0,bus=lsi0.0,scsi-id=0\"\n"
         "    image { name: \"disk\" image: \"" +
         image.path() + "\" } }\n";
}

class FrontEndTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    const Way& way = GetParam();
    if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
    if (way.qemu == Qemu::kSystem && RuntimePath("system_qemu").empty()) {
      GTEST_SKIP() << "no QEMU of the distribution's is installed";
    }
    if (way.qemu == Qemu::kSystem && RuntimePath("qemu_root").empty()) {
      GTEST_SKIP() << "the distribution's QEMU is the new one";
    }
    if (way.accel == Accel::kKvm && access("/dev/kvm", R_OK | W_OK) != 0) {
      GTEST_SKIP() << "/dev/kvm: not usable on this machine";
    }
  }

  // Describes the VM in a file; returns the command that runs it.
  std::vector<std::string> VmCommand(const BootImage& image) {
    const Way& way = GetParam();
    const std::string config = scratch_.path() + "/vm.textproto";
    std::ofstream out(config);
    out << "machine { memory: \"64MiB\" } access_deadline_ms: " << kDeadlineMs
        << "\n"
        << "devices { id: \"lsi0\" slot: \"00:06.0\"\n";
    if (way.device == Device::kOurs) {
      out << "  lsi53c895a { target { disk { format: RAW image: \""
          << image.path() << "\" } } } }\n";
    } else {
      out << RemoteDevice(image) << "}\n";
    }
    std::vector<std::string> command = {
        "launcher/vm", "--config=" + config,
        std::string("--accel=") + (way.accel == Accel::kKvm ? "kvm" : "tcg"),
        std::string("--frontend=") + (way.front_end == FrontEnd::kVfioUser
                                          ? "vfio_user"
                                          : "x_pci_proxy")};
    if (way.qemu == Qemu::kSystem) {
      command.push_back("--qemu=" + RuntimePath("system_qemu"));
    }
    return command;
  }

  // True if `vm` has said that this cannot be: then it must have said why.
  bool IsRefused(Process& vm) {
    for (const char* reason :
         {"error BH-Q302", "error BH-Q306", "error BH-Q307"}) {
      if (vm.output().find(reason) != std::string::npos) return true;
    }
    return false;
  }

  // Asks QEMU through the monitor that its console holds. Only root can take
  // that; for others it is enough that QEMU lives.
  static void ExpectMonitorAnswers(const std::vector<pid_t>& all) {
    EXPECT_GT(
        FindByCommand(all, "-nodefaults -no-user-config -display none -name"),
        0)
        << "QEMU lives";
    if (geteuid() != 0) return;
    const auto console = std::find_if(all.begin(), all.end(), [](pid_t pid) {
      return CommandLine(pid) == "console ";
    });
    ASSERT_NE(console, all.end());
    ASSERT_EQ(kill(*console, SIGSTOP), 0);
    Qmp qmp;
    EXPECT_TRUE(qmp.TakeFrom(*console, kConsoleMonitorFd)) << strerror(errno);
    for (int i = 0; i < 20; ++i) {
      const double seconds = qmp.AnswerSeconds();
      EXPECT_GE(seconds, 0) << "after " << i << " answers";
      EXPECT_LT(seconds, 2 * kDeadlineMs / 1000.0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    kill(*console, SIGCONT);
  }

  bool has_interrupts() const {
    return GetParam().front_end == FrontEnd::kVfioUser ||
           GetParam().accel == Accel::kKvm;
  }

  ScratchDirectory scratch_;
};

#define SKIP_IF_REFUSED(vm)                           \
  if (!(vm).running() || IsRefused(vm)) {             \
    (vm).Drain(Seconds(0.5));                         \
    if (IsRefused(vm)) GTEST_SKIP() << (vm).output(); \
  }

TEST_P(FrontEndTest, BiosReadsAndWritesTheDiskAndTheGuestRebootsOnce) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kRebootOnce);
  Process vm(VmCommand(image));
  const bool started = vm.WaitFor("BOOT count=01", kBoot);
  SKIP_IF_REFUSED(vm);
  ASSERT_TRUE(started) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT count=02", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
  EXPECT_NE(vm.output().find(image.expected_sum()), std::string::npos);
  EXPECT_TRUE(image.InverseWasWritten());
  EXPECT_EQ(image.boots(), 2);
}

TEST_P(FrontEndTest, GuestTakesAnInterruptForEachThatTheDeviceRaises) {
  BootImage image(scratch_.path() + "/boot.img", kIntxSector,
                  Ending::kPowerOff);
  Process vm(VmCommand(image));
  const bool started = vm.WaitFor("BOOT intx=", kBoot);
  SKIP_IF_REFUSED(vm);
  ASSERT_TRUE(started) << vm.output();
  EXPECT_TRUE(vm.WaitFor(has_interrupts() ? "04" : "00", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
}

// The device's process is stopped for less than the access deadline, goes on,
// is stopped for longer and killed: the VM lives, and QEMU's monitor answers
// throughout. Nothing of QEMU's waits for a device but the vCPU that accesses
// it; behind vfio-user-pci that one holds QEMU's big lock, for the deadline at
// most.
TEST_P(FrontEndTest, DeviceThatStopsAndDiesCostsTheGuestItsDiskOnly) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kReadForEver);
  Process vm(VmCommand(image));
  const bool started = vm.WaitFor("BOOT round", kBoot);
  SKIP_IF_REFUSED(vm);
  ASSERT_TRUE(started) << vm.output();
  const std::vector<pid_t> all = vm.Descendants();
  const pid_t device =
      FindByCommand(all, GetParam().device == Device::kOurs ? "lsi53c895a lsi0"
                                                            : "qemu_remote");
  ASSERT_GT(device, 0);

  ASSERT_EQ(kill(device, SIGSTOP), 0);
  vm.Drain(Seconds(0.3));
  ASSERT_EQ(kill(device, SIGCONT), 0);
  EXPECT_TRUE(vm.WaitFor("BOOT round", kBoot))
      << "after a stop shorter than the deadline: " << vm.output();

  ASSERT_EQ(kill(device, SIGSTOP), 0);
  ExpectMonitorAnswers(all);
  ASSERT_EQ(kill(device, SIGKILL), 0);
  ExpectMonitorAnswers(all);
  vm.Drain(Seconds(1));
  EXPECT_TRUE(vm.running());
  vm.EndAtOnce();
  EXPECT_EQ(vm.Wait(kBoot), 70) << "a device was lost: " << vm.output();
  EXPECT_TRUE(AllGone(all, Seconds(10)));
}

INSTANTIATE_TEST_SUITE_P(
    , FrontEndTest,
    ::testing::Values(
        Way{Device::kOurs, FrontEnd::kProxy, Qemu::kNew, Accel::kKvm},
        Way{Device::kRemote, FrontEnd::kProxy, Qemu::kNew, Accel::kKvm},
        Way{Device::kOurs, FrontEnd::kVfioUser, Qemu::kNew, Accel::kKvm},
        Way{Device::kRemote, FrontEnd::kVfioUser, Qemu::kNew, Accel::kKvm},
        Way{Device::kOurs, FrontEnd::kVfioUser, Qemu::kNew, Accel::kTcg},
        Way{Device::kRemote, FrontEnd::kVfioUser, Qemu::kNew, Accel::kTcg},
        Way{Device::kOurs, FrontEnd::kProxy, Qemu::kSystem, Accel::kTcg},
        Way{Device::kRemote, FrontEnd::kProxy, Qemu::kSystem, Accel::kTcg},
        Way{Device::kOurs, FrontEnd::kProxy, Qemu::kSystem, Accel::kKvm},
        Way{Device::kRemote, FrontEnd::kProxy, Qemu::kSystem, Accel::kKvm}),
    [](const auto& info) { return NameOf(info.param); });

// A QEMU that somebody else runs, of the distribution's, with its own monitor.
class OwnProxyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    qemu_program_ = RuntimePath("system_qemu");
    if (qemu_program_.empty()) GTEST_SKIP() << "no system QEMU; run ./bazelw";
    // Under KVM where that can be: newer ones crash without.
    accel_ = access("/dev/kvm", R_OK | W_OK) == 0 ? "kvm" : "tcg";
    if (accel_ == "tcg" && RuntimePath("system_qemu_version")[0] != '7') {
      GTEST_SKIP() << "this QEMU has no x-pci-proxy-dev without KVM";
    }
    std::filesystem::create_directory(directory_);
  }

  void Start(const BootImage& image) {
    Start({"--memory=64MiB", "--device=lsi53c895a,id=lsi0",
           "--disk=lsi0:0,format=raw,file=" + image.path()});
  }

  void StartWithRemote(const BootImage& image) {
    const std::string config = scratch_.path() + "/vm.textproto";
    std::ofstream(config) << "machine { memory: \"64MiB\" }\n"
                          << "devices { id: \"lsi0\"\n"
                          << RemoteDevice(image) << "}\n";
    Start({"--config=" + config});
  }

  void Start(const std::vector<std::string>& described) {
    std::vector<std::string> flags = {"launcher/vm", "--accel=" + accel_,
                                      "--frontend=x_pci_proxy",
                                      "--runtime_dir=" + directory_};
    flags.insert(flags.end(), described.begin(), described.end());
    std::vector<std::string> print = flags;
    print.push_back("--print_qemu_args=json");
    Process printed(print);
    ASSERT_EQ(printed.Wait(Seconds(20)), 0) << printed.output();
    const nlohmann::json arguments =
        nlohmann::json::parse(printed.output(), nullptr, false);
    ASSERT_TRUE(arguments.is_array()) << printed.output();
    flags.push_back("--no_qemu");
    devices_ = std::make_unique<Process>(flags);
    ASSERT_TRUE(devices_->WaitFor("waiting for QEMU", Seconds(20)))
        << devices_->output();
    StartQemu(arguments);
  }

  void StartQemu(const nlohmann::json& arguments) {
    arguments_ = arguments;
    std::vector<std::string> command = {"tools/with_sockets/with_sockets",
                                        "16=" + directory_ + "/lsi0.sock", "--",
                                        qemu_program_};
    for (const auto& argument : arguments) {
      command.push_back(argument.get<std::string>());
    }
    const std::string monitor = scratch_.path() + "/qmp";
    std::filesystem::remove(monitor);
    command.insert(command.end(), {"-serial", "stdio", "-qmp",
                                   "unix:" + monitor + ",server=on,wait=off"});
    qemu_ = std::make_unique<Process>(command);
    qmp_ = std::make_unique<Qmp>();
    ASSERT_TRUE(qmp_->Connect(monitor, 20)) << qemu_->output();
  }

  std::string qemu_program_;
  std::string accel_;
  nlohmann::json arguments_;
  ScratchDirectory scratch_;
  const std::string directory_ = scratch_.path() + "/run";
  std::unique_ptr<Process> devices_;
  std::unique_ptr<Process> qemu_;
  std::unique_ptr<Qmp> qmp_;
};

TEST_F(OwnProxyTest, ResetStoppedServiceAndDeathOfEitherSide) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kReadForEver);
  Start(image);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot)) << qemu_->output();

  // The machine is reset in the middle of its reads; memory tables change as
  // the firmware runs again.
  ASSERT_TRUE(qmp_->Execute("system_reset").contains("return"));
  ASSERT_TRUE(qemu_->WaitFor("BOOT count=02", kBoot)) << qemu_->output();
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot)) << qemu_->output();

  // While the service is stopped the monitor answers.
  const pid_t service =
      FindByCommand(devices_->Descendants(), "lsi53c895a lsi0");
  ASSERT_GT(service, 0);
  ASSERT_EQ(kill(service, SIGSTOP), 0);
  for (int i = 0; i < 20; ++i) {
    const double seconds = qmp_->AnswerSeconds();
    EXPECT_GE(seconds, 0);
    EXPECT_LT(seconds, 1.0);
  }
  ASSERT_EQ(kill(service, SIGCONT), 0);
  ASSERT_TRUE(qmp_->Execute("system_reset").contains("return"));
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot)) << qemu_->output();

  // QEMU dies; another one is served.
  qemu_->Signal(SIGKILL);
  qemu_->Wait(Seconds(10));
  ASSERT_TRUE(devices_->running()) << devices_->output();
  StartQemu(arguments_);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(qemu_->WaitFor("BOOT count=04", kBoot)) << qemu_->output();
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot)) << qemu_->output();

  // The service dies; QEMU and its monitor live, and a reset does not hurt.
  ASSERT_EQ(kill(service, SIGKILL), 0);
  EXPECT_TRUE(qemu_->WaitFor("BOOT fail=", kBoot)) << qemu_->output();
  EXPECT_TRUE(qmp_->Execute("system_reset").contains("return"));
  qemu_->Drain(Seconds(1));
  EXPECT_TRUE(qmp_->Execute("query-status").contains("return"));
  qmp_->Execute("quit");
  EXPECT_EQ(qemu_->Wait(Seconds(10)), 0);
}

TEST_F(OwnProxyTest, GuestTakesInterruptsUnderKvm) {
  if (accel_ != "kvm") GTEST_SKIP() << "no KVM: x-pci-proxy-dev has no INTx";
  BootImage image(scratch_.path() + "/boot.img", kIntxSector,
                  Ending::kPowerOff);
  Start(image);
  if (HasFatalFailure()) return;
  EXPECT_TRUE(qemu_->WaitFor("BOOT intx=04", kBoot)) << qemu_->output();
  EXPECT_EQ(qemu_->Wait(Seconds(10)), 0);
}

// The remote process is started when QEMU connects, serves that one, and ends
// with it, as it does without Bulkhead.
TEST_F(OwnProxyTest, RemoteProcessOfQemusServesTheOneThatConnects) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kReadForEver);
  StartWithRemote(image);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot))
      << qemu_->output() << devices_->output();
  ASSERT_TRUE(qmp_->Execute("system_reset").contains("return"));
  ASSERT_TRUE(qemu_->WaitFor("BOOT count=02", kBoot)) << qemu_->output();
  ASSERT_TRUE(qemu_->WaitFor("BOOT round", kBoot)) << qemu_->output();
  const std::vector<pid_t> all = devices_->Descendants();
  EXPECT_GT(FindByCommand(all, "qemu_remote"), 0);
  qmp_->Execute("quit");
  EXPECT_EQ(qemu_->Wait(Seconds(10)), 0);
  EXPECT_EQ(devices_->Wait(Seconds(20)), 0) << devices_->output();
  EXPECT_TRUE(AllGone(all, Seconds(10)));
}

TEST_F(OwnProxyTest, SignalEndsTheWaitForAQemuThatNeverComes) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kReadForEver);
  const std::string config = scratch_.path() + "/vm.textproto";
  std::ofstream(config) << "machine { memory: \"64MiB\" }\n"
                        << "devices { id: \"lsi0\"\n"
                        << RemoteDevice(image) << "}\n";
  const std::string own_directory = scratch_.path() + "/own";
  Process vm({"launcher/vm", "--accel=" + accel_, "--frontend=x_pci_proxy",
              "--runtime_dir=" + own_directory, "--config=" + config,
              "--no_qemu"});
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", Seconds(20))) << vm.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(Seconds(10)), 4) << vm.output();
  EXPECT_NE(vm.output().find("BH-D401"), std::string::npos) << vm.output();
  EXPECT_FALSE(std::filesystem::exists(own_directory)) << "it cleans up";
}

// Linux behind x-pci-proxy-dev needs its interrupts, and so KVM that runs
// 64-bit code: `vm` itself probes for that when nobody names an accelerator.
TEST_F(OwnProxyTest, LinuxFindsItsDiskUnderFullKvm) {
  Process probe({"launcher/vm", "--frontend=x_pci_proxy", "--check"});
  if (probe.WaitFor("error BH-Q306", Seconds(20))) {
    GTEST_SKIP() << "KVM runs no 64-bit code here: " << probe.output();
  }
  EXPECT_EQ(probe.Wait(Seconds(300)), 0) << probe.output();
}

}  // namespace
}  // namespace bulkhead::testing

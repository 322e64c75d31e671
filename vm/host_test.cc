// What QEMU's jail sees of the host; and which front end the shims get: what
// this QEMU, its accelerator and the devices can, and the reason where nothing
// does.

#include "vm/host.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kMsix[] = "nvme0 (nvme) needs MSI-X";

Qemu Release(int major, int minor) {
  Qemu qemu;
  qemu.release = {major, minor};
  qemu.version = std::to_string(major) + "." + std::to_string(minor) + ".0";
  return qemu;
}

std::string Chosen(Frontend wanted, const char* needs, const Qemu& qemu,
                   bool use_kvm) {
  const absl::StatusOr<FrontendChoice> choice =
      ChooseFrontend(wanted, needs, qemu, use_kvm);
  if (!choice.ok()) return FormatError(choice.status());
  return (choice->frontend == X_PCI_PROXY ? "proxy" : "vfio") + choice->note;
}

std::string Program(const char* script) {
  std::string folder = ::testing::TempDir() + "program-XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  const std::string program = folder + "/qemu";
  std::ofstream(program) << "#!/bin/sh\n" << script;
  std::filesystem::permissions(program, std::filesystem::perms(0755));
  return program;
}

std::string ErrorOf(const char* script) {
  const absl::StatusOr<Qemu> qemu = FindQemu(Program(script), {});
  return qemu.ok() ? "none" : FormatError(qemu.status());
}

// Each byte in time, the line never: it would take the patience of 4096 bytes.
TEST(FindQemuTest, ProgramThatDripsItsVersionIsGivenUp) {
  EXPECT_THAT(
      ErrorOf("printf 'QEMU emulator version 11.1'\n"
              "while :; do sleep 0.2; printf 1; done\n"),
      AllOf(HasSubstr("BH-Q301"), HasSubstr("/qemu --version: no answer within "
                                            "five seconds")));
}

TEST(FindQemuTest, ProgramThatSaysNoVersionIsNotAQemu) {
  for (const char* script :
       {"yes | tr -d '\\n'\n", "exec cat /dev/zero\n", "exit 1\n",
        "echo not a QEMU; exec sleep 1000\n"}) {
    EXPECT_THAT(ErrorOf(script),
                AllOf(HasSubstr("BH-Q301"), HasSubstr("is not a QEMU")))
        << script;
  }
}

// What comes after its first line is not waited for.
TEST(FindQemuTest, FirstLineIsEnough) {
  const absl::StatusOr<Qemu> qemu = FindQemu(
      Program("echo 'QEMU emulator version 11.1.3'\nexec sleep 1000\n"), {});
  ASSERT_TRUE(qemu.ok()) << FormatError(qemu.status());
  EXPECT_EQ(qemu->version, "11.1.3");
}

// Often it lies in somebody's home.
TEST(FindQemuTest, TheJailSeesOfItsFolderOnlyWhatItNeeds) {
  std::string home = ::testing::TempDir() + "home-XXXXXX";
  ASSERT_NE(mkdtemp(home.data()), nullptr);
  home = std::filesystem::canonical(home);
  const std::string program = home + "/bin/qemu-system-x86_64";
  for (const char* folder : {"/bin", "/lib", "/share/qemu", "/.ssh"}) {
    std::filesystem::create_directories(home + folder);
  }
  std::ofstream(program) << "#!/bin/sh\necho QEMU emulator version 11.1.3\n";
  std::filesystem::permissions(program, std::filesystem::perms(0755));
  const auto shown = [](const std::string& chosen) {
    const absl::StatusOr<Qemu> qemu = FindQemu(chosen, {});
    std::vector<std::string> sources;
    if (!qemu.ok()) return sources;
    for (const sandbox::Bind& bind : qemu->binds) {
      EXPECT_EQ(bind.source, bind.target);
      EXPECT_FALSE(bind.writable);
      sources.push_back(bind.source);
    }
    return sources;
  };
  EXPECT_THAT(shown(program),
              testing::ElementsAre("/usr", program, home + "/lib",
                                   home + "/share/qemu"));
  const std::string copy = home + "/qemu";
  std::filesystem::copy_file(program, copy);
  EXPECT_THAT(shown(copy), testing::ElementsAre("/usr", copy, home + "/lib",
                                                home + "/share/qemu"));
  std::filesystem::remove_all(home);
}

TEST(ChooseFrontendTest, VfioUserWhereTheDeviceOrTheAcceleratorNeedsIt) {
  EXPECT_EQ(Chosen(FRONTEND_AUTO, kMsix, Release(11, 1), true), "vfio");
  EXPECT_EQ(Chosen(FRONTEND_AUTO, "", Release(11, 1), false), "vfio");
}

TEST(ChooseFrontendTest, ProxyWhereNothingNeedsMore) {
  EXPECT_EQ(Chosen(FRONTEND_AUTO, "", Release(11, 1), true), "proxy");
  EXPECT_EQ(Chosen(FRONTEND_AUTO, "", Release(8, 2), true), "proxy");
  EXPECT_EQ(Chosen(FRONTEND_AUTO, "", Release(7, 2), true), "proxy");
}

TEST(ChooseFrontendTest, TheUserOverrides) {
  EXPECT_EQ(Chosen(VFIO_USER, "", Release(11, 1), true), "vfio");
  EXPECT_EQ(Chosen(X_PCI_PROXY, "", Release(11, 1), true), "proxy");
  EXPECT_THAT(Chosen(X_PCI_PROXY, "", Release(7, 2), false),
              HasSubstr("guests must poll"));
}

TEST(ChooseFrontendTest, WhereNothingWorksItSaysWhyAndWhatToDo) {
  EXPECT_THAT(
      Chosen(FRONTEND_AUTO, "", Release(7, 2), false),
      testing::AllOf(HasSubstr("has no vfio-user-pci"),
                     HasSubstr("no interrupts"), HasSubstr("--accel=kvm")));
  EXPECT_THAT(Chosen(FRONTEND_AUTO, kMsix, Release(7, 2), true),
              testing::AllOf(HasSubstr("MSI-X"), HasSubstr("--qemu=PATH")));
  EXPECT_THAT(Chosen(VFIO_USER, "", Release(7, 2), true),
              HasSubstr("--frontend=x_pci_proxy"));
  EXPECT_THAT(Chosen(X_PCI_PROXY, kMsix, Release(11, 1), true),
              HasSubstr("--frontend=vfio_user"));
  EXPECT_THAT(Chosen(X_PCI_PROXY, "", Release(11, 1), false),
              HasSubstr("crashes at start"));
}

}  // namespace
}  // namespace bulkhead::vm

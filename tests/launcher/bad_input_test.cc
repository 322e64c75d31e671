// Each mistake gets one clear line that names the thing and the remedy, an exit
// status of its own, and leaves nothing behind.

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

using ::testing::HasSubstr;

class BadInputTest : public ::testing::Test {
 protected:
  // Runs `vm` with `arguments`, which must fail with `status`.
  std::string ErrorOf(std::vector<std::string> arguments, int status) {
    arguments.insert(arguments.begin(), "launcher/vm");
    Process vm(arguments);
    EXPECT_EQ(vm.Wait(Seconds(30)), status) << vm.output();
    EXPECT_TRUE(vm.Descendants().empty());
    return vm.output();
  }

  std::string File(const std::string& name, const std::string& text) {
    const std::string path = scratch_.path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  std::vector<std::string> WithDisk(const std::string& options) {
    return {"--accel=tcg", "--device=lsi53c895a,id=a", "--disk=a:0," + options};
  }

  ScratchDirectory scratch_;
};

TEST_F(BadInputTest, ImageThatIsMissing) {
  EXPECT_THAT(ErrorOf(WithDisk("file=/no/such.qcow2"), 64),
              HasSubstr("error BH-C104: devices[0].lsi53c895a.target[0].disk."
                        "image: /no/such.qcow2: no such file or directory"));
}

TEST_F(BadInputTest, FileThatIsNoImage) {
  const std::string text = File("notes", std::string(4096, 'x'));
  EXPECT_THAT(ErrorOf(WithDisk("format=qcow2,file=" + text), 64),
              HasSubstr("BH-C106"));
  EXPECT_THAT(ErrorOf(WithDisk("file=" + text), 64),
              HasSubstr("raw is never guessed"));
  EXPECT_THAT(ErrorOf(WithDisk("file=/tmp"), 64),
              HasSubstr("is a directory, not an image"));
  EXPECT_THAT(ErrorOf(WithDisk("readonly=on,format=raw,file=/dev/null"), 64),
              HasSubstr("is a special file, not an image"));
}

TEST_F(BadInputTest, ImageThatIsTooSmall) {
  EXPECT_THAT(ErrorOf(WithDisk("format=raw,file=" + File("tiny", "abc")), 64),
              HasSubstr("is too small: 3 bytes, and a block has 512"));
  EXPECT_THAT(
      ErrorOf(WithDisk("format=qcow2,file=" + File("tiny", "QFI\xfb")), 64),
      HasSubstr("is too small for a qcow2 image"));
}

// The image says who its parent is; only the description may.
TEST_F(BadInputTest, BackingFileThatTheDescriptionDoesNotName) {
  const std::string folder = scratch_.path();
  ASSERT_EQ(system(("cd " + folder +
                    " && qemu-img create -q -f qcow2 base.qcow2 1M && "
                    "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "
                    "over.qcow2")
                       .c_str()),
            0);
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  EXPECT_THAT(
      ErrorOf(WithDisk("format=qcow2,file=" + folder + "/over.qcow2"), 64),
      HasSubstr("base.qcow2"));
}

TEST_F(BadInputTest, DescriptionWithAMistake) {
  const std::string config =
      File("vm.textproto", "name: \"x\"\ndevices { floppy { } }\n");
  const std::string error = ErrorOf({"--config=" + config}, 64);
  EXPECT_THAT(error, HasSubstr("vm.textproto:2:11: error BH-C100"));
  EXPECT_THAT(error, HasSubstr("VmDevice has: id, slot, boot_index, "));
  EXPECT_THAT(ErrorOf({"--config=/no/such"}, 64), HasSubstr("cannot read it"));
}

TEST_F(BadInputTest, ImageThatIsNamedTwice) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  std::vector<std::string> arguments =
      WithDisk("format=raw,file=" + File("disk", std::string(4096, 'x')));
  arguments.push_back("--disk=a:1,format=raw,file=" + scratch_.path() +
                      "/disk");
  EXPECT_THAT(ErrorOf(arguments, 64), HasSubstr("disk is named twice"));
}

TEST_F(BadInputTest, TooFewFilesMayBeOpen) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  Process vm({"/bin/sh", "-c", "ulimit -n 20 && exec \"$0\" \"$@\"",
              "launcher/vm", "--accel=tcg", "--memory=64MiB",
              "--device=lsi53c895a"});
  EXPECT_EQ(vm.Wait(Seconds(30)), 69) << vm.output();
  EXPECT_THAT(vm.output(), HasSubstr("too many open files"));
  EXPECT_THAT(vm.output(), HasSubstr("fix: raise this shell's limit"));
}

TEST_F(BadInputTest, FlagWithAMistake) {
  EXPECT_THAT(ErrorOf({"--dryrun"}, 2), HasSubstr("--dry_run?"));
  EXPECT_THAT(ErrorOf({"--device=floppy,id=f"}, 2),
              HasSubstr("unknown device floppy"));
}

TEST_F(BadInputTest, QemuThatIsMissingOrNone) {
  EXPECT_THAT(ErrorOf({"--device=lsi53c895a", "--qemu=/no/qemu"}, 69),
              HasSubstr("error BH-Q301: --qemu=/no/qemu: no such file"));
  EXPECT_THAT(ErrorOf({"--device=lsi53c895a", "--qemu=/bin/true"}, 69),
              HasSubstr("is not a QEMU"));
}

TEST_F(BadInputTest, QemuThatIsTooOld) {
  const std::string old =
      File("qemu", "#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian)'\n");
  ASSERT_EQ(system(("chmod +x " + old).c_str()), 0);
  EXPECT_THAT(
      ErrorOf({"--device=lsi53c895a", "--accel=tcg", "--qemu=" + old}, 69),
      HasSubstr("error BH-Q302: QEMU 7.2.22"));
  EXPECT_THAT(ErrorOf({"--device=lsi53c895a", "--accel=tcg",
                       "--frontend=vfio_user", "--qemu=" + old},
                      69),
              HasSubstr("has no vfio-user-pci: that needs 10.1"));
}

TEST_F(BadInputTest, KvmThatIsNotThere) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  // A namespace in which /dev is empty.
  Process vm({"/usr/bin/unshare", "-rm", "/bin/sh", "-c",
              "mount -t tmpfs none /dev && exec \"$0\" \"$@\"", "launcher/vm",
              "--accel=kvm", "--device=lsi53c895a"});
  EXPECT_EQ(vm.Wait(Seconds(30)), 69) << vm.output();
  EXPECT_THAT(vm.output(),
              HasSubstr("error BH-Q303: KVM is not available: /dev/kvm: no "
                        "such file or directory"));
  EXPECT_THAT(vm.output(), HasSubstr("fix: --accel=tcg"));
}

TEST_F(BadInputTest, HostWithoutUserNamespaces) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  if (geteuid() != 0) GTEST_SKIP() << "needs root to reserve ids";
  Process vm({"/usr/bin/unshare", "-r", "/bin/sh", "-c",
              "echo 0 >/proc/sys/user/max_user_namespaces && "
              "exec \"$0\" \"$@\"",
              "launcher/vm", "--accel=tcg", "--memory=64MiB",
              "--device=lsi53c895a"});
  EXPECT_EQ(vm.Wait(Seconds(30)), 69) << vm.output();
  EXPECT_THAT(vm.output(), HasSubstr("error BH-S201: cannot jail"));
  EXPECT_THAT(vm.output(), HasSubstr("user.max_user_namespaces"));
}

TEST_F(BadInputTest, FirmwareThatIsMissing) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  EXPECT_THAT(ErrorOf({"--accel=tcg", "--device=lsi53c895a", "--memory=64MiB",
                       "--firmware=/no/such.fd"},
                      64),
              HasSubstr("/no/such.fd: no such file or directory"));
}

TEST_F(BadInputTest, KernelThatCannotBeLoaded) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  const auto error_of = [this](const std::string& kernel) {
    return ErrorOf({"--accel=tcg", "--device=lsi53c895a", "--memory=64MiB",
                    "--kernel=" + kernel},
                   64);
  };
  const std::string fifo = scratch_.path() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(error_of(fifo), HasSubstr("fifo is a special file"));
  EXPECT_THAT(error_of("/tmp"),
              HasSubstr("error BH-C106: boot.kernel: /tmp is a directory"));
  // All of it would be read into memory.
  const std::string large = File("large", "");
  ASSERT_EQ(truncate(large.c_str(), off_t{1} << 40), 0);
  EXPECT_THAT(error_of(large),
              HasSubstr("has 1099511627776 bytes, and the guest's RAM "
                        "67108864"));
}

// In /tmp somebody else's link can lead elsewhere at any moment.
TEST_F(BadInputTest, RuntimeDirectoryThatIsALink) {
  const std::string link = scratch_.path() + "/link";
  ASSERT_EQ(mkdir((scratch_.path() + "/own").c_str(), 0700), 0);
  ASSERT_EQ(symlink("own", link.c_str()), 0);
  for (const std::string& name : {link, link + "/"}) {
    EXPECT_THAT(ErrorOf({"--no_qemu", "--memory=64MiB", "--device=lsi53c895a",
                         "--runtime_dir=" + name},
                        64),
                HasSubstr("error BH-S203: it is a symbolic link"));
  }
  EXPECT_THAT(ErrorOf({"--no_qemu", "--memory=64MiB", "--device=lsi53c895a",
                       "--runtime_dir=" + File("file", "")},
                      64),
              HasSubstr("it is no directory"));
}

TEST_F(BadInputTest, MoreMemoryThanThereIs) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  EXPECT_THAT(
      ErrorOf({"--accel=tcg", "--device=lsi53c895a", "--memory=1TiB"}, 69),
      HasSubstr("error BH-S202: 1TiB of guest RAM do not fit"));
}

}  // namespace
}  // namespace bulkhead::testing

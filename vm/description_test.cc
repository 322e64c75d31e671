// A description with a mistake in it: the user is told what, where and what to
// do, all at once, before anything is started.

#include "vm/description.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vm/check.h"
#include "vm/flags.h"

namespace bulkhead::vm {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string ErrorOf(const std::string& textproto) {
  absl::StatusOr<Description> description =
      Description::Parse("vm.textproto", textproto);
  if (!description.ok()) return FormatError(description.status());
  return FormatError(CheckAndComplete(&*description));
}

constexpr char kGood[] = R"(
  name: "web1"
  machine { memory: "1GiB" vcpus: 2 }
  devices { id: "disk0"
    lsi53c895a { target { id: 0 disk { image: "a.qcow2" format: QCOW2 } } } }
  devices { id: "disk1" slot: "00:05.0"
    lsi53c895a { target { id: 3 lun: 1 cdrom { image: "b.iso" } } } }
)";

TEST(DescriptionTest, GoodDescriptionIsCompleted) {
  absl::StatusOr<Description> description =
      Description::Parse("vm.textproto", kGood);
  ASSERT_TRUE(description.ok()) << description.status();
  ASSERT_EQ(FormatError(CheckAndComplete(&*description)), "");
  const VmSpec& spec = description->spec();
  EXPECT_EQ(RamBytes(spec), uint64_t{1} << 30);
  EXPECT_EQ(spec.devices(0).slot(), "00:04.0");
  EXPECT_EQ(SlotNumber(spec.devices(1)), 5u);
  EXPECT_EQ(spec.devices(1).lsi53c895a().target(0).cdrom().access(),
            Disk::READ_ONLY);
}

TEST(DescriptionTest, UnknownFieldIsNamedWithItsPlaceAndTheNearestOne) {
  EXPECT_EQ(ErrorOf("name: \"x\"\nmachine { memori: \"1GiB\" }\n"),
            "vm.textproto:2:11: error BH-C100: Message type "
            "\"bulkhead.Machine\" has no field named \"memori\".\n"
            "    2 | machine { memori: \"1GiB\" }\n"
            "      |           ^\n"
            "  fix: did you mean memory? Machine has: type, accel, memory, "
            "vcpus\n");
}

TEST(DescriptionTest, UnknownDeviceListsTheDevicesThereAre) {
  EXPECT_THAT(ErrorOf("devices { id: \"n\" floppy { } }"),
              HasSubstr("VmDevice has: id, slot, boot_index, lsi53c895a"));
}

TEST(DescriptionTest, NvmeNeedsNamespacesAndHasTheSerialNumberItself) {
  EXPECT_THAT(ErrorOf("devices { nvme { } }"),
              HasSubstr("devices[0].nvme.namespace: it has no namespace"));
  const std::string errors = ErrorOf(
      "devices { nvme { serial: \"123456789012345678901\" "
      "namespace { image: \"x\" serial: \"y\" } } }");
  EXPECT_THAT(errors, HasSubstr("nvme.serial: not a serial number"));
  EXPECT_THAT(errors, HasSubstr("the serial number is the controller's"));
}

TEST(DescriptionTest, EveryMistakeIsToldAtOnce) {
  const std::string errors = ErrorOf(R"(name: "Web"
machine { memory: "17" vcpus: 99 }
spin_limit_us: 1001
devices { id: "a" slot: "00:04.0"
  lsi53c895a { target { id: 7 disk { image: "x" } }
               target { id: 1 disk { block_size: 100 image: "y" } }
               target { id: 1 } } }
devices { id: "a" slot: "00:04.0" lsi53c895a { } }
devices { id: "b" slot: "4" }
)");
  EXPECT_THAT(errors, HasSubstr("vm.textproto:1:1: error BH-C101: name: "
                                "\"Web\" is not a name"));
  EXPECT_THAT(errors, HasSubstr("vm.textproto:2:11: error BH-C103: "
                                "machine.memory: 17B is not possible"));
  EXPECT_THAT(errors, HasSubstr("machine.vcpus: 99 is too many"));
  EXPECT_THAT(errors, HasSubstr("spin_limit_us: 1001 is longer than"));
  EXPECT_THAT(errors,
              HasSubstr("devices[0].lsi53c895a.target[0].id: 7 is not a"));
  EXPECT_THAT(errors, HasSubstr("target[1].disk.block_size: 100 is not"));
  EXPECT_THAT(errors, HasSubstr("target 1 LUN 0 is there twice"));
  EXPECT_THAT(errors, HasSubstr("target[2]: what is in it?"));
  EXPECT_THAT(errors, HasSubstr("devices[1].id: \"a\" is another device's"));
  EXPECT_THAT(errors, HasSubstr("devices[1].slot: slot 00:04.0 is taken by a"));
  EXPECT_THAT(errors, HasSubstr("devices[2]: what device is it?"));
  EXPECT_THAT(errors, HasSubstr("devices[2].slot: \"4\" is not a slot"));
}

// What is printed on a terminal must not steer it.
TEST(DescriptionTest, ControlBytesInAFileAreShownNotPrinted) {
  EXPECT_THAT(ErrorOf("name: \"a\\033[2J\""), Not(HasSubstr("\033")));
  EXPECT_THAT(ErrorOf("na\033[2Jme: \"a\""), Not(HasSubstr("\033")));
}

absl::StatusOr<Description> FromFlags(
    const std::vector<std::string>& arguments) {
  absl::StatusOr<Flags> flags = ParseFlags(arguments);
  if (!flags.ok()) return flags.status();
  Description description;
  absl::Status status = ApplyFlags(*flags, "/home/me", &description);
  if (!status.ok()) return status;
  status = CheckAndComplete(&description);
  if (!status.ok()) return status;
  return description;
}

TEST(FlagsTest, RepeatedFlagsAccumulate) {
  absl::StatusOr<Description> description = FromFlags(
      {"--device", "lsi53c895a,id=lsi0", "--disk",
       "lsi0:0,file=x.qcow2,readonly=off,format=qcow2,backing=b.qcow2",
       "--disk=lsi0:1.2,file=/abs,,comma,format=raw", "--cdrom",
       "lsi0:2,file=x.iso", "--memory=1G", "--cpus", "2", "--accel=tcg",
       "--set=devices.lsi0.lsi53c895a.target.2.cdrom.serial=\"S1\""});
  ASSERT_TRUE(description.ok()) << FormatError(description.status());
  const Lsi53c895a& lsi = description->spec().devices(0).lsi53c895a();
  ASSERT_EQ(lsi.target_size(), 3);
  EXPECT_EQ(lsi.target(0).disk().image(), "/home/me/x.qcow2");
  EXPECT_EQ(lsi.target(0).disk().format(), Disk::QCOW2);
  EXPECT_EQ(lsi.target(0).disk().backing(0).image(), "/home/me/b.qcow2");
  EXPECT_EQ(lsi.target(1).lun(), 2u);
  EXPECT_EQ(lsi.target(1).disk().image(), "/abs,comma");
  EXPECT_EQ(lsi.target(2).cdrom().serial(), "S1");
  EXPECT_EQ(description->spec().machine().accel(), Machine::TCG);
}

TEST(FlagsTest, DeviceWithOneDiskNeedsNoTarget) {
  absl::StatusOr<Description> description = FromFlags(
      {"--device=virtio_blk,id=d0,queues=2,queue_threads=2,rings=split",
       "--disk=d0,file=x.raw,format=raw,serial=S,throw_away=on",
       "--device=virtio_blk,id=d1", "--disk=d1,file=y.qcow2", "--cpus=8"});
  ASSERT_TRUE(description.ok()) << FormatError(description.status());
  const VirtioBlk& first = description->spec().devices(0).virtio_blk();
  EXPECT_EQ(first.queues(), 2u);
  EXPECT_EQ(first.queue_threads(), 2u);
  EXPECT_EQ(first.rings(), VirtioBlk::SPLIT);
  EXPECT_EQ(first.disk().image(), "/home/me/x.raw");
  EXPECT_EQ(first.disk().serial(), "S");
  EXPECT_TRUE(first.disk().throw_away());
  EXPECT_FALSE(description->spec().devices(1).virtio_blk().disk().throw_away());
  EXPECT_EQ(description->spec().devices(1).virtio_blk().queues(), 4u);

  const auto error = [](const std::vector<std::string>& arguments) {
    return FormatError(FromFlags(arguments).status());
  };
  EXPECT_THAT(error({"--device=virtio_blk,id=d0,queues=17",
                     "--disk=d0,file=x.raw,format=raw"}),
              HasSubstr("17 are too many"));
  EXPECT_THAT(error({"--device=virtio_blk,id=d0,queue_threads=5",
                     "--disk=d0,file=x.raw,format=raw"}),
              HasSubstr("5 are too many"));
  EXPECT_THAT(error({"--device=virtio_blk,id=d0,queue_threads=2",
                     "--disk=d0,file=x.qcow2,format=qcow2"}),
              HasSubstr("only a raw image without limits"));
  EXPECT_THAT(error({"--device=virtio_blk,id=d0"}),
              HasSubstr("virtio_blk.disk.image: the image is missing"));
  EXPECT_THAT(error({"--device=virtio_blk,id=d0", "--disk=d0:1,file=x"}),
              HasSubstr("d0 has no targets"));
}

TEST(FlagsTest, MistakesNameTheFlagAndTheRemedy) {
  const auto error = [](const std::vector<std::string>& arguments) {
    const absl::Status status = FromFlags(arguments).status();
    EXPECT_FALSE(status.ok());
    return FormatError(status);
  };
  EXPECT_EQ(error({"--dryrun"}),
            "--dryrun: error BH-U001: unknown flag\n  fix: --dry_run?\n");
  EXPECT_THAT(error({"--memory"}), HasSubstr("its value is missing"));
  EXPECT_THAT(error({"vm.textproto"}), HasSubstr("not a flag"));
  EXPECT_THAT(error({"--device=e1000,id=n"}),
              HasSubstr("unknown device e1000"));
  EXPECT_THAT(error({"--disk=lsi0:0,file=x"}),
              HasSubstr("no device has the id lsi0"));
  EXPECT_THAT(error({"--device=lsi53c895a,id=a", "--disk=a:0,fil=x"}),
              HasSubstr("bad option fil"));
  EXPECT_THAT(error({"--cpus=many"}), HasSubstr("not a number"));
  EXPECT_THAT(error({"--no_qemu"}), HasSubstr("--runtime_dir=DIR"));
  EXPECT_THAT(error({"--device=lsi53c895a,id=a", "--set=devices.b.slot=1"}),
              HasSubstr("no such element of devices"));
  EXPECT_THAT(error({"--set=machine.memory=5"}), HasSubstr("not a value for"));
  EXPECT_THAT(
      error({"--memory=lots"}),
      HasSubstr("--memory=lots: error BH-C103: machine.memory: \"lots\" "
                "is not a size"));
}

TEST(FlagsTest, UsageAndDescriptionErrorsExitDifferently) {
  EXPECT_EQ(ExitCodeOf(FromFlags({"--bogus"}).status()), kExitUsage);
  EXPECT_EQ(ExitCodeOf(FromFlags({"--memory=lots"}).status()), kExitBadConfig);
}

TEST(DescriptionTest, NbdDiskNeedsAServersUriAndNothingOfAFile) {
  const auto error = [](const std::string& disk) {
    return ErrorOf("devices { id: \"d\" lsi53c895a { target { disk { " + disk +
                   " } } } }");
  };
  EXPECT_EQ(error("nbd { uri: \"nbd+unix:///a?socket=/s\" }"), "");
  EXPECT_EQ(error("nbd { uri: \"nbd://host/a\" patience_seconds: 5 }"), "");
  EXPECT_THAT(error("nbd { uri: \"http://host\" }"), HasSubstr("BH-C112"));
  EXPECT_THAT(error("nbd { uri: \"nbds://host/a\" }"), HasSubstr("TLS"));
  EXPECT_THAT(error("image: \"x\" nbd { uri: \"nbd://host/a\" }"),
              HasSubstr("an image and a server"));
  EXPECT_THAT(error("nbd { uri: \"nbd://host/a\" export: \"b\" }"),
              HasSubstr("names an export as well"));
  EXPECT_THAT(error("format: QCOW2 nbd { uri: \"nbd://host/a\" }"),
              HasSubstr("taken as it is"));
  EXPECT_THAT(error("direct: true nbd { uri: \"nbd://host/a\" }"),
              HasSubstr("about files"));
}

}  // namespace
}  // namespace bulkhead::vm

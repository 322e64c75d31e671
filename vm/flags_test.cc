// What --help says of --device and --disk, and what their parser takes, are the
// same; and all of a disk's description can be said that way.

#include "vm/flags.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

using testing::HasSubstr;

struct Option {
  std::string name;
  std::vector<std::string> values;
  std::string models;  // "": all
};

// "queues=N (virtio_blk)".
std::vector<Option> Options(PartFlag::Kind kind) {
  std::vector<Option> options;
  const std::string texts = OptionsText(kind);
  for (const absl::string_view text :
       absl::StrSplit(texts, absl::ByString(", "))) {
    const std::vector<std::string> words =
        absl::StrSplit(text, absl::MaxSplits(' ', 1));
    const std::vector<std::string> sides = absl::StrSplit(words[0], '=');
    options.push_back({sides.at(0), absl::StrSplit(sides.at(1), '|'),
                       words.size() > 1 ? words[1] : ""});
    for (std::string& value : options.back().values) {
      if (value == "N") value = "1";
    }
  }
  return options;
}

absl::Status Apply(const std::vector<std::string>& arguments,
                   Description* description) {
  const absl::StatusOr<Flags> flags = ParseFlags(arguments);
  if (!flags.ok()) return flags.status();
  return ApplyFlags(*flags, "/home/me", description);
}

TEST(FlagsTest, HelpNamesEveryOptionOfDevicesAndDisks) {
  const std::string help = HelpText();
  for (const auto kind : {PartFlag::Kind::kDevice, PartFlag::Kind::kDisk}) {
    EXPECT_THAT(help, HasSubstr("options: " + OptionsText(kind) + "\n"));
  }
  for (const char* option :
       {"file=", "nbd=", "format=", "readonly=", "backing=", "serial=",
        "block_size=", "key_file=", "engine=", "direct=", "throw_away=",
        "queues=", "queue_threads=", "rings=", "boot_index=", "slot="}) {
    EXPECT_THAT(help, HasSubstr(option));
  }
}

TEST(FlagsTest, DisksTakeEveryOptionAndValueThatHelpNames) {
  for (const Option& option : Options(PartFlag::Kind::kDisk)) {
    for (const std::string& value : option.values) {
      const std::string disk =
          absl::StrCat("--disk=d,", option.name, "=", value);
      Description description;
      EXPECT_EQ(
          FormatError(Apply({"--device=virtio_blk,id=d", disk}, &description)),
          "")
          << disk;
    }
  }
}

TEST(FlagsTest, DevicesTakeTheOptionsThatHelpNamesForTheirModel) {
  for (const std::string model : {"lsi53c895a", "nvme", "virtio_blk"}) {
    for (const Option& option : Options(PartFlag::Kind::kDevice)) {
      const bool takes = option.models.empty() ||
                         option.models.find(model) != std::string::npos;
      for (const std::string& value : option.values) {
        const std::string device =
            absl::StrCat("--device=", model, ",", option.name, "=", value);
        Description description;
        EXPECT_EQ(Apply({device}, &description).ok(), takes) << device;
      }
    }
  }
}

// A field that is added to a disk's description gets an option, or a place in
// this list.
TEST(FlagsTest, AllOfADiskCanBeSaidByOptionsButItsLimitsAndCache) {
  std::string flag = "--disk=d";
  for (const Option& option : Options(PartFlag::Kind::kDisk)) {
    absl::StrAppend(&flag, ",", option.name, "=", option.values.back());
  }
  // The last value of these is the default, which leaves no trace.
  absl::StrAppend(&flag, ",readonly=on,direct=on,throw_away=on");
  Description description;
  ASSERT_EQ(
      FormatError(Apply({"--device=virtio_blk,id=d", flag}, &description)), "");
  const Disk& disk = description.spec().devices(0).virtio_blk().disk();
  std::set<std::string> unset;
  for (int i = 0; i < Disk::descriptor()->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field =
        Disk::descriptor()->field(i);
    const google::protobuf::Reflection* reflection = disk.GetReflection();
    if (field->is_repeated() ? reflection->FieldSize(disk, field) == 0
                             : !reflection->HasField(disk, field)) {
      unset.insert(field->name());
    }
  }
  EXPECT_EQ(unset, (std::set<std::string>{"limits", "cache"}));
}

TEST(FlagsTest, UnknownOptionIsAnsweredWithTheOptionsThereAre) {
  Description description;
  const std::string error = FormatError(
      Apply({"--device=nvme,id=n", "--disk=n,spped=1"}, &description));
  EXPECT_THAT(error, HasSubstr("bad option spped"));
  EXPECT_THAT(error, HasSubstr(OptionsText(PartFlag::Kind::kDisk)));
}

}  // namespace
}  // namespace bulkhead::vm

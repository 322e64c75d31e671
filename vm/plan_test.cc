// The plan is all that will be started: what each process may hold and reach.

#include "vm/plan.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "policy/registry.h"
#include "vm/check.h"
#include "vm/qemu_args.h"

namespace bulkhead::vm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

Description Described(const std::string& text) {
  absl::StatusOr<Description> description = Description::Parse("t", text);
  EXPECT_TRUE(description.ok()) << description.status();
  EXPECT_EQ(FormatError(CheckAndComplete(&*description)), "");
  return *std::move(description);
}

Description TwoDevices() {
  return Described(R"(
    name: "two" machine { memory: "64MiB" } boot { kernel: "k" }
    devices { id: "a" lsi53c895a {
      target { id: 0 disk { image: "a.qcow2" backing { image: "base" } } }
      target { id: 1 disk { image: "b.qcow2" access: READ_ONLY } } } }
    devices { id: "b" lsi53c895a { target { cdrom { image: "c.iso" } } } }
  )");
}

PlanInputs Inputs() {
  return {.qemu_tree = "/tree",
          .qemu_program = "/usr/bin/qemu-system-x86_64",
          .policy = &policy::FindPolicy};
}

Plan PlanOf(const Description& description) {
  absl::StatusOr<Plan> plan = MakePlan(description, Inputs());
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

TEST(PlanTest, QueueThreadsAreTheHostsUnlessTheDeviceSays) {
  const Description description = Described(R"(
    name: "two" machine { memory: "64MiB" type: Q35 } boot { kernel: "k" }
    devices { id: "a" virtio_blk { disk { image: "a" format: RAW } } }
    devices { id: "b" virtio_blk {
      queue_threads: 2 disk { image: "b" format: RAW } } }
    devices { id: "c" nvme { namespace { image: "c" format: RAW } } }
    devices { id: "d" nvme {
      queue_threads: 2 namespace { image: "d" format: RAW } } }
  )");
  PlanInputs inputs = Inputs();
  inputs.queue_threads = 3;
  absl::StatusOr<Plan> plan = MakePlan(description, inputs);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->devices[0].config.virtio_blk().queue_threads(), 3u);
  EXPECT_EQ(plan->devices[1].config.virtio_blk().queue_threads(), 2u);
  EXPECT_EQ(plan->devices[2].config.nvme().queue_threads(), 3u);
  EXPECT_EQ(plan->devices[3].config.nvme().queue_threads(), 2u);
}

TEST(PlanTest, SpinLimitIsTheHostsUnlessTheDescriptionSays) {
  PlanInputs inputs = Inputs();
  inputs.spin_limit_us = 500;
  const auto limit = [&](const std::string& field) {
    absl::StatusOr<Plan> plan = MakePlan(
        Described("name: \"vm\" machine { memory: \"64MiB\" } " + field +
                  " boot { kernel: \"k\" } devices { id: \"a\" virtio_blk { "
                  "disk { image: \"a\" format: RAW } } }"),
        inputs);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->devices[0].config.polling().spin_limit_us();
  };
  EXPECT_EQ(limit(""), 500u);
  EXPECT_EQ(limit("spin_limit_us: 0"), 0u);
  EXPECT_EQ(limit("spin_limit_us: 20"), 20u);
}

TEST(PlanTest, EveryDeviceHasAServiceAndAShimWithIdsOfTheirOwn) {
  const Plan plan = PlanOf(TwoDevices());
  ASSERT_EQ(plan.processes.size(), 6u);
  std::set<uid_t> ids;
  for (const PlannedProcess& process : plan.processes) {
    EXPECT_GE(process.outside_id, kDefaultFirstId);
    EXPECT_LT(process.outside_id, kDefaultFirstId + kIdsOfOneVm);
    ids.insert(process.outside_id);
  }
  EXPECT_EQ(ids.size(), 6u);
  EXPECT_EQ(plan.processes.back().name, "qemu");
}

// Every fd that is planned is one that the process's policy lists.
TEST(PlanTest, NoProcessHoldsAnFdThatItsPolicyDoesNotList) {
  const Plan plan = PlanOf(TwoDevices());
  for (const PlannedProcess& process : plan.processes) {
    for (const PlannedFd& fd : process.fds) {
      bool listed = false;
      for (const sandbox::CompiledFd& rule : process.policy->fds) {
        listed |= !rule.received && fd.target >= rule.first &&
                  fd.target < rule.first + rule.max_count;
      }
      EXPECT_TRUE(listed) << process.name << " fd " << fd.target;
    }
  }
}

// A shim never holds guest RAM or an image; QEMU never an image or a channel.
TEST(PlanTest, WhoFacesWhomHoldsNothingOfTheOther) {
  using Kind = Resource::Kind;
  const Plan plan = PlanOf(TwoDevices());
  for (const PlannedProcess& process : plan.processes) {
    for (const PlannedFd& fd : process.fds) {
      const Kind kind = fd.resource.kind;
      if (process.role == PlannedProcess::Role::kShim) {
        EXPECT_NE(kind, Kind::kRam);
        EXPECT_NE(kind, Kind::kImage);
      } else if (process.role == PlannedProcess::Role::kQemu) {
        EXPECT_NE(kind, Kind::kImage);
        EXPECT_NE(kind, Kind::kControl);
        EXPECT_NE(kind, Kind::kChannelService);
      } else if (fd.resource.device >= 0) {
        EXPECT_EQ(fd.resource.device, process.device);
      }
    }
  }
}

TEST(PlanTest, ConfigurationNamesEachFileByTheFdThatTheServiceWillFind) {
  const Plan plan = PlanOf(TwoDevices());
  const ServiceConfig& config = plan.devices[0].config;
  ASSERT_EQ(config.backends_size(), 2);
  EXPECT_EQ(config.backends(0).image().fd(), 7);
  EXPECT_EQ(config.backends(0).backing(0).fd(), 8);
  EXPECT_EQ(config.backends(1).image().fd(), 9);
  EXPECT_FALSE(config.backends(0).read_only());
  EXPECT_TRUE(config.backends(1).read_only());
  EXPECT_TRUE(plan.devices[0].images[1].read_only) << "parents always are";
  EXPECT_EQ(config.lsi53c895a().units(1).backend(), 1u);
  EXPECT_EQ(plan.devices[1].config.lsi53c895a().units(0).kind(),
            ScsiLogicalUnit::CDROM);
}

// The password's file is handed over as the image's is; what it holds is in no
// argument and no configuration.
TEST(PlanTest, KeyFileOfAnEncryptedImageIsAnFdOfTheService) {
  const Plan plan = PlanOf(Described(R"(
    devices { id: "a" lsi53c895a { target { id: 0
      disk { image: "a.qcow2" access: READ_ONLY key_file: "a.key"
             backing { image: "b.qcow2" key_file: "b.key" }
             cache { tables: "8MiB" } } } } }
  )"));
  const BackendConfig& backend = plan.devices[0].config.backends(0);
  EXPECT_EQ(backend.image().fd(), 7);
  EXPECT_EQ(backend.image().key_fd(), 8);
  EXPECT_EQ(backend.backing(0).fd(), 9);
  EXPECT_EQ(backend.backing(0).key_fd(), 10);
  EXPECT_EQ(backend.cache().table_bytes(), 8u << 20);
  EXPECT_EQ(backend.cache().decoded_bytes(), 0u);
  ASSERT_EQ(plan.devices[0].images.size(), 4u);
  EXPECT_TRUE(plan.devices[0].images[1].is_key);
  EXPECT_EQ(plan.devices[0].images[1].path, "a.key");
}

TEST(PlanTest, MoreImagesThanThePolicyHasRoomForAreRefused) {
  std::string text = "devices { id: \"a\" lsi53c895a {";
  for (int i = 0; i < 7; ++i) {
    text += "target { id: " + std::to_string(i) + " disk { image: \"x\"";
    for (int parent = 0; parent < 7; ++parent) {
      text += " backing { image: \"y\" }";
    }
    text += "} }";
  }
  const absl::StatusOr<Plan> plan = MakePlan(Described(text + "} }"), Inputs());
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(FormatError(plan.status()), HasSubstr("more than its policy's"));
}

TEST(PlanTest, DryRunNamesEveryProcessFdAndPolicy) {
  const std::string text = FormatPlan(PlanOf(TwoDevices()));
  EXPECT_THAT(text, HasSubstr("a.shim: shim"));
  EXPECT_THAT(text, HasSubstr("b: service, lsi53c895a at 00:05.0"));
  EXPECT_THAT(text, HasSubstr("user pid mount network ipc uts cgroup time"));
  EXPECT_THAT(text, HasSubstr("fd 8        image base, read-only (parent)"));
}

constexpr char kRemote[] = R"(
    name: "r" machine { memory: "64MiB" }
    devices { id: "lsi0" qemu_remote {
      args: "-device" args: "lsi53c895a,id=lsi0"
      args: "-drive" args: "if=none,id=d,format=qcow2,file={disk}"
      image { name: "disk" image: "a.qcow2" }
      image { name: "iso" image: "b.iso" access: READ_ONLY } } }
    devices { id: "b" lsi53c895a { } }
  )";

const PlannedProcess* Find(const Plan& plan, const std::string& name) {
  for (const PlannedProcess& process : plan.processes) {
    if (process.name == name) return &process;
  }
  return nullptr;
}

std::set<Resource::Kind> KindsOf(const PlannedProcess& process) {
  std::set<Resource::Kind> kinds;
  for (const PlannedFd& fd : process.fds) kinds.insert(fd.resource.kind);
  return kinds;
}

TEST(PlanTest, RemoteProcessHoldsItsImagesAndOneSocketOnly) {
  using Kind = Resource::Kind;
  for (Frontend frontend : {VFIO_USER, X_PCI_PROXY}) {
    PlanInputs inputs = Inputs();
    inputs.frontend = frontend;
    const absl::StatusOr<Plan> plan = MakePlan(Described(kRemote), inputs);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const PlannedProcess* remote = Find(*plan, "lsi0");
    ASSERT_NE(remote, nullptr);
    EXPECT_EQ(KindsOf(*remote),
              (std::set<Kind>{Kind::kLog, Kind::kProxyServer, Kind::kImage,
                              Kind::kImageReader}));
    EXPECT_EQ(remote->fds.size(), 3u + 1u + 2u + 1u) << "the ISO only to read";
    EXPECT_THAT(remote->arguments,
                Contains("if=none,id=d,format=qcow2,file=/dev/fdset/1,"
                         "file.locking=off"));
    EXPECT_THAT(remote->arguments, Contains("fd=19,set=2"));
    EXPECT_THAT(remote->arguments,
                Contains("x-remote-object,id=x-remote,devid=lsi0,fd=4"));
    EXPECT_STREQ(remote->policy->name, "qemu_remote");
    for (const PlannedProcess& process : plan->processes) {
      for (const PlannedFd& fd : process.fds) {
        bool listed = false;
        for (const sandbox::CompiledFd& rule : process.policy->fds) {
          listed |= !rule.received && fd.target >= rule.first &&
                    fd.target < rule.first + rule.max_count;
        }
        EXPECT_TRUE(listed) << process.name << " fd " << fd.target;
      }
    }
    // x-pci-proxy-dev speaks with it directly; vfio-user needs an adapter.
    const PlannedProcess* adapter = Find(*plan, "lsi0.adapter");
    EXPECT_EQ(adapter == nullptr, frontend == X_PCI_PROXY);
    if (adapter != nullptr) {
      EXPECT_EQ(KindsOf(*adapter).count(Kind::kImage), 0u);
      EXPECT_EQ(KindsOf(*adapter).count(Kind::kRam), 1u);
    }
    const std::vector<std::string>& qemu = plan->processes.back().arguments;
    if (frontend == X_PCI_PROXY) {
      EXPECT_THAT(qemu, Contains("x-pci-proxy-dev,id=lsi0,fd=80,addr=4"));
      EXPECT_THAT(qemu, Contains("x-pci-proxy-dev,id=b,fd=81,addr=5"));
    }
    EXPECT_THAT(FormatPlan(*plan), HasSubstr("image a.qcow2, read-write"));
  }
}

TEST(PlanTest, RemoteProcessIsNotGivenWhatTheLauncherGivesIt) {
  for (const char* args :
       {"args: \"-machine\" args: \"pc\"", "args: \"--daemonize\"",
        "args: \"-object\" args: \"x-remote-object,id=x,devid=y,fd=9\"", ""}) {
    absl::StatusOr<Description> description = Description::Parse(
        "t", absl::StrCat("devices { qemu_remote { ", args, " } }"));
    ASSERT_TRUE(description.ok());
    EXPECT_NE(FormatError(CheckAndComplete(&*description)), "") << args;
  }
}

TEST(QemuArgumentsTest, RamIsOurMemfdAndDevicesAreVfioUser) {
  const Plan plan = PlanOf(TwoDevices());
  const std::vector<std::string>& arguments = plan.processes.back().arguments;
  EXPECT_THAT(arguments, Contains("memory-backend-file,id=ram,mem-path=/proc/"
                                  "self/fd/3,share=on,size=67108864"));
  EXPECT_THAT(arguments,
              Contains(R"({"driver":"vfio-user-pci","id":"b","addr":"5",)"
                       R"("socket":{"type":"unix","path":"/proc/self/fd/17"},)"
                       R"("x-msg-timeout":120000})"));
  EXPECT_THAT(arguments, Contains("-nodefaults"));
  EXPECT_THAT(arguments, Not(Contains(HasSubstr("a.qcow2"))));
}

// A guest's command line must not become another option of QEMU's.
TEST(QemuArgumentsTest, TextOfTheUsersStaysOneArgument) {
  Description description = Described(
      "boot { kernel: \"k,id=x\" cmdline: \"a,b -S 'q' \\\"d\\\"\" }");
  QemuWiring wiring{.ram = "/run/a,b/ram", .kernel = "/x/k,id=x"};
  const std::vector<std::string> arguments =
      QemuArguments(description.spec(), wiring);
  EXPECT_THAT(arguments, Contains("a,b -S 'q' \"d\""));
  EXPECT_THAT(arguments, Contains(HasSubstr("mem-path=/run/a,,b/ram,")));
  EXPECT_THAT(PrintArguments(arguments, "shell"),
              HasSubstr("-append 'a,b -S '\\''q'\\'' \"d\"'"));
  EXPECT_THAT(PrintArguments(arguments, "libvirt"),
              HasSubstr("value='a,b -S &apos;q&apos; &quot;d&quot;'/>"));
  EXPECT_THAT(PrintArguments({"-a", "b c"}, "json"), "[\"-a\",\"b c\"]\n");
}

// An NBD disk: a process that connects, and a policy with sockets for the
// service; io_uring: a policy with a ring. Others have neither.
TEST(PlanTest, OnlyADeviceThatNeedsMoreCallsHasAPolicyWithMore) {
  const Plan plan = PlanOf(Described(R"(
    name: "three" machine { memory: "64MiB" } boot { kernel: "k" }
    devices { id: "a" lsi53c895a { target { id: 0 disk { image: "a" } } } }
    devices { id: "b" lsi53c895a {
      target { id: 0 disk { image: "b" } }
      target { id: 1 disk { nbd { uri: "nbd+unix:///x?socket=/s" } } } } }
    devices { id: "c" lsi53c895a {
      target { disk { image: "c" engine: IO_URING } } } }
  )"));
  std::string order;
  for (const PlannedProcess& process : plan.processes) {
    order += process.name + "=" + process.policy->name + " ";
  }
  EXPECT_EQ(order,
            "console=console a=lsi53c895a a.shim=shim b.nbd1=connector "
            "b=lsi53c895a_nbd b.shim=shim c=lsi53c895a_uring c.shim=shim "
            "qemu=qemu ");
  for (const PlannedProcess& process : plan.processes) {
    for (const PlannedFd& fd : process.fds) {
      bool listed = false;
      for (const sandbox::CompiledFd& rule : process.policy->fds) {
        listed |= !rule.received && fd.target >= rule.first &&
                  fd.target < rule.first + rule.max_count;
      }
      EXPECT_TRUE(listed) << process.name << " fd " << fd.target;
    }
  }
}

// How large the file may become that a remote process writes is what its -drive
// says; of a format that is unknown here nothing is.
TEST(PlanTest, ImagesOfARemoteProcessAreOfTheFormatThatItsDriveNames) {
  const auto image = [](const std::string& drive) {
    return PlanOf(Described(absl::StrCat(
                      R"(devices { id: "lsi0" qemu_remote {
                        args: "-device" args: "lsi53c895a,id=lsi0"
                        args: "-drive" args: ")",
                      drive, R"(" image { name: "disk" image: "d" } } })")))
        .devices[0]
        .images[0];
  };
  EXPECT_EQ(image("id=a,format=qcow2,file={disk}").format, Disk::QCOW2);
  EXPECT_FALSE(image("id=a,format=qcow2,file={disk}").opaque);
  EXPECT_EQ(image("file={disk},format=raw").format, Disk::RAW);
  EXPECT_FALSE(image("file={disk},format=raw").opaque);
  EXPECT_TRUE(image("file={disk},format=vdi").opaque);
  EXPECT_TRUE(image("file={disk}").opaque);
  EXPECT_TRUE(image("filename={disk},driver=file,node-name=format=raw").opaque);
}

}  // namespace
}  // namespace bulkhead::vm

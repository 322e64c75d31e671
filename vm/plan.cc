#include "vm/plan.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "connector/connector_fds.h"
#include "console/console_fds.h"
#include "proto/service_fds.h"
#include "proto/service_policy.h"
#include "proxy/shim_fds.h"
#include "proxy/x_remote/adapter_fds.h"
#include "vm/check.h"
#include "vm/qemu_args.h"
#include "vm/size.h"

namespace bulkhead::vm {
namespace {

using Kind = Resource::Kind;

// QEMU's fds, beyond 0 to 2. policy/qemu.textproto lists the same.
constexpr int kQemuRamFd = 3;
constexpr int kQemuConsoleFd = 4;
constexpr int kQemuMonitorFd = 5;
constexpr int kQemuKernelFd = 6;
constexpr int kQemuInitrdFd = 7;
constexpr int kQemuFirmwareFd = 8;
constexpr int kQemuKvmFd = 9;
constexpr int kQemuFirstSocketFd = 16;
constexpr int kQemuFirstProxyFd = 80;

// policy/qemu_remote.textproto lists the same.
constexpr int kRemoteSocketFd = 4;
constexpr int kRemoteFirstImageFd = 16;

// The fds that every process but the console has. Its number is `index`.
std::vector<PlannedFd> LogFds(int index) {
  return {{0, {Kind::kLog, -1, index}},
          {1, {Kind::kLog, -1, index}},
          {2, {Kind::kLog, -1, index}}};
}

int NextIndex(const Plan& plan) {
  return static_cast<int>(plan.processes.size());
}

std::string FdPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

std::string PolicyName(const PlannedDevice& device) {
  return absl::StrCat(device.model->name, SuffixOf(VariantOf(device.config)));
}

PlannedProcess PlanService(const Plan& plan, int device,
                           const PlanInputs& inputs) {
  const PlannedDevice& planned = plan.devices[device];
  PlannedProcess process{.role = PlannedProcess::Role::kService,
                         .name = planned.id,
                         .device = device,
                         .policy = inputs.policy(PolicyName(planned)),
                         .program = planned.model->program,
                         .arguments = {PolicyName(planned), planned.id},
                         .fds = LogFds(NextIndex(plan)),
                         .outside_id = inputs.first_id + 2 + 2 * device,
                         .mapped_bytes = plan.ram_bytes};
  process.fds.push_back({kChannelFd, {Kind::kChannelService, device}});
  process.fds.push_back({kControlFd, {Kind::kControl, -1, NextIndex(plan)}});
  process.fds.push_back({kRamFd, {Kind::kRam}});
  process.fds.push_back({kStateFd, {Kind::kState, device}});
  for (size_t i = 0; i < planned.images.size(); ++i) {
    const int index = static_cast<int>(i);
    if (planned.images[i].nbd) {
      const BackendConfig& backend =
          planned.config.backends(planned.images[i].backend);
      process.fds.push_back(
          {backend.nbd().connector_fd(), {Kind::kConnector, device, index}});
    } else {
      process.fds.push_back(
          {kFirstBackendFd + index, {Kind::kImage, device, index}});
    }
  }
  return process;
}

// Behind QEMU's, the console's and the devices'; the last of the block is the
// check's. More connectors than ids share the last one.
uid_t ConnectorId(const Plan& plan, const PlanInputs& inputs) {
  const auto others =
      std::count_if(plan.processes.begin(), plan.processes.end(),
                    [](const PlannedProcess& process) {
                      return process.role == PlannedProcess::Role::kConnector;
                    });
  constexpr uid_t kFirst = 34;
  return inputs.first_id +
         std::min(kFirst + static_cast<uid_t>(others), kIdsOfOneVm - 2);
}

PlannedProcess PlanConnector(const Plan& plan, int device, int image,
                             const PlanInputs& inputs) {
  const PlannedDevice& planned = plan.devices[device];
  PlannedProcess process{.role = PlannedProcess::Role::kConnector,
                         .name = absl::StrCat(planned.id, ".nbd", image),
                         .device = device,
                         .image = image,
                         .policy = inputs.policy("connector"),
                         .program = "connector/connector",
                         .arguments = {"connector", planned.id},
                         .fds = LogFds(NextIndex(plan)),
                         .outside_id = ConnectorId(plan, inputs)};
  process.fds.push_back(
      {connector::kControlFd, {Kind::kControl, -1, NextIndex(plan)}});
  process.fds.push_back(
      {connector::kServiceFd, {Kind::kConnectorServer, device, image}});
  if (planned.images[image].unix_socket) {
    process.fds.push_back(
        {connector::kFolderFd, {Kind::kServerFolder, device, image}});
  }
  return process;
}

PlannedProcess PlanShim(const Plan& plan, int device,
                        const PlanInputs& inputs) {
  PlannedProcess process{.role = PlannedProcess::Role::kShim,
                         .name = plan.devices[device].id + ".shim",
                         .device = device,
                         .policy = inputs.policy("shim"),
                         .program = inputs.frontend == X_PCI_PROXY
                                        ? "proxy/mpqemu_shim"
                                        : "proxy/shim",
                         .arguments = {"shim", plan.devices[device].id},
                         .fds = LogFds(NextIndex(plan)),
                         .outside_id = inputs.first_id + 3 + 2 * device};
  process.fds.push_back({proxy::kShimChannelFd, {Kind::kChannelShim, device}});
  process.fds.push_back(
      {proxy::kShimControlFd, {Kind::kControl, -1, NextIndex(plan)}});
  process.fds.push_back(
      {proxy::kShimQemuFd,
       {inputs.frontend == X_PCI_PROXY && !inputs.no_qemu ? Kind::kProxyServer
                                                          : Kind::kListener,
        device}});
  return process;
}

// A remote process of QEMU's own, with nothing but its image.
PlannedProcess PlanRemote(const VmSpec& spec, const Plan& plan, int device,
                          const PlanInputs& inputs) {
  const PlannedDevice& planned = plan.devices[device];
  PlannedProcess process{
      .role = PlannedProcess::Role::kRemote,
      .name = planned.id,
      .device = device,
      .policy = inputs.policy(planned.model->name),
      .program = inputs.qemu_program,
      .arguments = QemuRemoteArguments(spec.devices(device), kRemoteSocketFd,
                                       kRemoteFirstImageFd),
      .fds = LogFds(NextIndex(plan)),
      .outside_id = inputs.first_id + 2 + 2 * device,
      .mapped_bytes = plan.ram_bytes,
      .tree = inputs.qemu_tree,
      .binds = inputs.qemu_binds};
  process.arguments.insert(process.arguments.begin(), planned.model->name);
  process.fds.push_back({kRemoteSocketFd, {Kind::kProxyServer, device}});
  for (size_t i = 0; i < planned.images.size(); ++i) {
    const int index = static_cast<int>(i);
    const int fd = kRemoteFirstImageFd + 2 * index;
    if (!planned.images[i].read_only) {
      process.fds.push_back({fd, {Kind::kImage, device, index}});
    }
    process.fds.push_back({fd + 1, {Kind::kImageReader, device, index}});
  }
  return process;
}

// Between that and vfio-user-pci.
PlannedProcess PlanAdapter(const Plan& plan, int device,
                           const PlanInputs& inputs) {
  PlannedProcess process{
      .role = PlannedProcess::Role::kShim,
      .name = plan.devices[device].id + ".adapter",
      .device = device,
      .policy = inputs.policy("x_remote_adapter"),
      .program = "proxy/x_remote/adapter",
      .arguments = {"x_remote_adapter", plan.devices[device].id},
      .fds = LogFds(NextIndex(plan)),
      .outside_id = inputs.first_id + 3 + 2 * device};
  process.fds.push_back({proxy::kAdapterRemoteFd, {Kind::kProxyUser, device}});
  process.fds.push_back(
      {proxy::kAdapterControlFd, {Kind::kControl, -1, NextIndex(plan)}});
  process.fds.push_back({proxy::kAdapterQemuFd, {Kind::kListener, device}});
  process.fds.push_back({proxy::kAdapterRamFd, {Kind::kRam}});
  return process;
}

PlannedProcess PlanQemu(const VmSpec& spec, const Plan& plan,
                        const PlanInputs& inputs) {
  PlannedProcess process{.role = PlannedProcess::Role::kQemu,
                         .name = "qemu",
                         .policy = inputs.policy("qemu"),
                         .program = inputs.qemu_program,
                         .fds = LogFds(NextIndex(plan)),
                         .outside_id = inputs.first_id,
                         .mapped_bytes = plan.ram_bytes,
                         .tree = inputs.qemu_tree,
                         .binds = inputs.qemu_binds,
                         .scratch = {"/tmp"}};
  QemuWiring wiring{.ram = FdPath(kQemuRamFd),
                    .use_kvm = inputs.use_kvm,
                    .kvm_cpu = inputs.kvm_cpu,
                    .jailed = true,
                    .console_fd = kQemuConsoleFd,
                    .monitor_fd = kQemuMonitorFd,
                    .monitor_object = inputs.qemu_has_monitor_object};
  process.fds.push_back({kQemuRamFd, {Kind::kRam}});
  process.fds.push_back({kQemuConsoleFd, {Kind::kSerial}});
  process.fds.push_back({kQemuMonitorFd, {Kind::kMonitor}});
  if (!spec.boot().kernel().empty()) {
    process.fds.push_back({kQemuKernelFd, {Kind::kKernel}});
    wiring.kernel = FdPath(kQemuKernelFd);
  }
  if (!spec.boot().initrd().empty()) {
    process.fds.push_back({kQemuInitrdFd, {Kind::kInitrd}});
    wiring.initrd = FdPath(kQemuInitrdFd);
  }
  if (!spec.boot().firmware_image().empty()) {
    process.fds.push_back({kQemuFirmwareFd, {Kind::kFirmware}});
    wiring.firmware = FdPath(kQemuFirmwareFd);
  } else if (spec.boot().firmware() == Boot::OVMF) {
    wiring.firmware = inputs.ovmf;
  }
  if (inputs.use_kvm && inputs.qemu_takes_kvm_fd) {
    process.fds.push_back({kQemuKvmFd, {Kind::kKvm}});
    wiring.kvm_fd = kQemuKvmFd;
  } else if (inputs.use_kvm && inputs.kvm_bind.has_value()) {
    process.binds.push_back(*inputs.kvm_bind);
  }
  const bool is_proxy = inputs.frontend == X_PCI_PROXY;
  wiring.frontend = inputs.frontend;
  wiring.first_proxy_fd = kQemuFirstProxyFd;
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const int device = static_cast<int>(i);
    const int fd = (is_proxy ? kQemuFirstProxyFd : kQemuFirstSocketFd) + device;
    process.fds.push_back(
        {fd, {is_proxy ? Kind::kProxyUser : Kind::kSocket, device}});
    wiring.sockets.push_back(FdPath(fd));
  }
  process.arguments = QemuArguments(spec, wiring);
  process.arguments.insert(process.arguments.begin(), inputs.qemu_program);
  return process;
}

// `processes`: how many there are besides it.
PlannedProcess PlanConsole(const PlanInputs& inputs, int processes) {
  PlannedProcess process{.role = PlannedProcess::Role::kConsole,
                         .name = "console",
                         .policy = inputs.policy("console"),
                         .program = "console/console",
                         .arguments = {"console"},
                         .outside_id = inputs.first_id + 1};
  for (int fd = 0; fd < 3; ++fd) {
    process.fds.push_back({fd, {Kind::kUser, -1, fd}});
  }
  process.fds.push_back({console::kControlFd, {Kind::kControl, -1, 0}});
  if (!inputs.no_qemu) {
    process.fds.push_back({console::kGuestFd, {Kind::kSerialUser}});
    process.fds.push_back({console::kMonitorFd, {Kind::kMonitorUser}});
  }
  for (int i = 0; i < processes; ++i) {
    process.fds.push_back(
        {console::kFirstLogFd + i, {Kind::kLogReader, -1, 1 + i}});
  }
  return process;
}

// A policy's fd table must have room for what the description asks for.
absl::Status CheckImageCount(const Description& description,
                             const PlannedDevice& device, int index,
                             const sandbox::CompiledPolicy& policy) {
  size_t room = 0;
  size_t servers = 0;  // that there is room for
  for (const sandbox::CompiledFd& fd : policy.fds) {
    if (fd.received) continue;
    if (fd.first == kFirstBackendFd) room = fd.max_count;
    if (device.model->program == nullptr && fd.first == kRemoteFirstImageFd) {
      room = fd.max_count / 2;  // each twice
    }
    if (fd.first == kFirstConnectorFd) servers = fd.max_count;
  }
  size_t nbd_images = 0;
  for (const ImageUse& image : device.images) nbd_images += image.nbd ? 1 : 0;
  if (device.images.size() <= room && nbd_images <= servers) {
    return absl::OkStatus();
  }
  return description.ErrorAt(
      absl::StrCat("devices[", index, "]"), kExitBadConfig, "BH-C103",
      absl::StrCat(device.images.size(), " images are more than its policy's ",
                   room),
      "spread them over several devices, or shorten the backing chains");
}

// A device runs under one policy: with io_uring, or with sockets.
absl::Status ChooseEngines(const Description& description,
                           const PlanInputs& inputs, int index,
                           PlannedDevice* device) {
  for (BackendConfig& backend : *device->config.mutable_backends()) {
    if (backend.engine() != IO_URING) continue;
    if (inputs.no_io_uring) {
      backend.set_engine(WORKERS);
    } else if (VariantOf(device->config) == PolicyVariant::kNbd) {
      return description.ErrorAt(
          absl::StrCat("devices[", index, "]"), kExitBadConfig, "BH-C103",
          "an NBD disk and engine: IO_URING on one device",
          "give each a device of its own, or leave the engine out");
    }
  }
  return absl::OkStatus();
}

std::string NamespaceList(uint32_t clone_flags) {
  constexpr std::pair<uint32_t, const char*> kNames[] = {
      {CLONE_NEWUSER, "user"},   {CLONE_NEWPID, "pid"}, {CLONE_NEWNS, "mount"},
      {CLONE_NEWNET, "network"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"},
      {0x02000000, "cgroup"},    {0x00000080, "time"}};
  std::vector<std::string> names;
  for (const auto& [flag, name] : kNames) {
    if (clone_flags & flag) names.push_back(name);
  }
  return absl::StrJoin(names, " ");
}

const char* RoleText(PlannedProcess::Role role) {
  switch (role) {
    case PlannedProcess::Role::kService:
      return "service";
    case PlannedProcess::Role::kShim:
      return "shim";
    case PlannedProcess::Role::kQemu:
      return "QEMU";
    case PlannedProcess::Role::kConsole:
      return "console";
    case PlannedProcess::Role::kConnector:
      return "connector";
    case PlannedProcess::Role::kRemote:
      return "remote process of QEMU's";
  }
  return "";
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const Description& description,
                              const PlanInputs& inputs) {
  const VmSpec& spec = description.spec();
  Plan plan;
  plan.name = spec.name();
  plan.ram_bytes = RamBytes(spec);
  plan.access_deadline_ms = spec.access_deadline_ms();
  plan.frontend = inputs.frontend;
  for (int i = 0; i < spec.devices_size(); ++i) {
    const VmDevice& device = spec.devices(i);
    PlannedDevice& planned = plan.devices.emplace_back();
    planned.id = device.id();
    planned.slot = device.slot();
    planned.model = &ModelOf(device);
    planned.config.set_vm_name(plan.name);
    planned.config.set_device_id(device.id());
    planned.config.set_ram_bytes(plan.ram_bytes);
    planned.config.mutable_polling()->set_spin_limit_us(
        spec.has_spin_limit_us() ? spec.spin_limit_us() : inputs.spin_limit_us);
    planned.model->configure(device, absl::StrCat("devices[", i, "]"),
                             &planned.config, &planned.images);
    if (planned.config.has_virtio_blk() &&
        planned.config.virtio_blk().queue_threads() == 0) {
      planned.config.mutable_virtio_blk()->set_queue_threads(
          inputs.queue_threads);
    }
    if (planned.config.has_nvme() &&
        planned.config.nvme().queue_threads() == 0) {
      planned.config.mutable_nvme()->set_queue_threads(inputs.queue_threads);
    }
    absl::Status engines = ChooseEngines(description, inputs, i, &planned);
    if (!engines.ok()) return engines;
    const sandbox::CompiledPolicy* policy = inputs.policy(PolicyName(planned));
    if (policy == nullptr) {
      return description.ErrorAt(
          absl::StrCat("devices[", i, "]"), kExitBadConfig, "BH-C103",
          absl::StrCat("there is no policy ", PolicyName(planned)),
          "this device takes plain image files only");
    }
    absl::Status status = CheckImageCount(description, planned, i, *policy);
    if (!status.ok()) return status;
  }
  // A remote process speaks x-pci-proxy-dev's protocol itself.
  const auto is_remote = [&](int device) {
    return plan.devices[device].model->program == nullptr;
  };
  int count = inputs.no_qemu ? 0 : 1;
  for (int i = 0; i < spec.devices_size(); ++i) {
    count += is_remote(i) && inputs.frontend == X_PCI_PROXY ? 1 : 2;
    for (const ImageUse& image : plan.devices[i].images) {
      count += image.nbd ? 1 : 0;
    }
  }
  plan.processes.push_back(PlanConsole(inputs, count));
  for (int i = 0; i < spec.devices_size(); ++i) {
    // First: a service opens its disks before it is ready.
    for (size_t image = 0; image < plan.devices[i].images.size(); ++image) {
      if (!plan.devices[i].images[image].nbd) continue;
      plan.processes.push_back(
          PlanConnector(plan, i, static_cast<int>(image), inputs));
    }
    plan.processes.push_back(is_remote(i) ? PlanRemote(spec, plan, i, inputs)
                                          : PlanService(plan, i, inputs));
    if (!is_remote(i)) {
      plan.processes.push_back(PlanShim(plan, i, inputs));
    } else if (inputs.frontend != X_PCI_PROXY) {
      plan.processes.push_back(PlanAdapter(plan, i, inputs));
    }
  }
  if (!inputs.no_qemu) plan.processes.push_back(PlanQemu(spec, plan, inputs));
  return plan;
}

bool IsHeld(const Plan& plan, const Resource& resource) {
  for (const PlannedProcess& process : plan.processes) {
    for (const PlannedFd& fd : process.fds) {
      if (fd.resource.kind == resource.kind &&
          fd.resource.device == resource.device &&
          fd.resource.index == resource.index) {
        return true;
      }
    }
  }
  return false;
}

std::string NameOf(const Resource& resource, const Plan& plan) {
  const PlannedDevice* device =
      resource.device >= 0 ? &plan.devices[resource.device] : nullptr;
  switch (resource.kind) {
    case Kind::kUser:
      return "the user's, as `vm` was started with";
    case Kind::kLog:
      return "log pipe to the console";
    case Kind::kLogReader:
      return absl::StrCat("log pipe of ", plan.processes[resource.index].name);
    case Kind::kRam:
      return absl::StrCat("guest RAM, memfd of ", FormatSize(plan.ram_bytes),
                          ", sealed");
    case Kind::kChannelService:
      return absl::StrCat("channel to ", device->id, ".shim");
    case Kind::kChannelShim:
      return absl::StrCat("channel to ", device->id);
    case Kind::kControl:
      return "control channel to the launcher";
    case Kind::kControlLauncher:
      return absl::StrCat("control channel to ",
                          plan.processes[resource.index].name);
    case Kind::kState:
      return "state memfd, sealed";
    case Kind::kImage: {
      const ImageUse& image = device->images[resource.index];
      if (image.is_key) return absl::StrCat("key ", Escape(image.path));
      return absl::StrCat("image ", Escape(image.path),
                          image.read_only ? ", read-only" : ", read-write",
                          image.parent >= 0 ? " (parent)" : "");
    }
    case Kind::kConnector:
      return absl::StrCat("connector for ",
                          Escape(device->images[resource.index].path));
    case Kind::kConnectorServer:
      return absl::StrCat("requests for sockets, from ", device->id);
    case Kind::kServerFolder:
      return absl::StrCat("folder of the server's socket, O_PATH: ",
                          Escape(device->images[resource.index].path));
    case Kind::kImageReader:
      return absl::StrCat("image ", Escape(device->images[resource.index].path),
                          ", opened to read");
    case Kind::kListener:
      return "socket for QEMU, listening";
    case Kind::kProxyServer:
    case Kind::kProxyUser:
      return absl::StrCat("socket of ", device->id, " for x-pci-proxy-dev");
    case Kind::kSocket:
      return absl::StrCat("vfio-user socket of ", device->id, ", O_PATH");
    case Kind::kSerial:
    case Kind::kSerialUser:
      return "the guest's serial port";
    case Kind::kMonitor:
    case Kind::kMonitorUser:
      return "QEMU's monitor";
    case Kind::kKernel:
      return "kernel, sealed copy";
    case Kind::kInitrd:
      return "initrd, sealed copy";
    case Kind::kFirmware:
      return "firmware, sealed copy";
    case Kind::kKvm:
      return "/dev/kvm";
  }
  return "";
}

std::string FormatPlan(const Plan& plan) {
  std::string text = absl::StrFormat(
      "vm %s: %s of RAM, %d devices, %d processes\n", plan.name,
      FormatSize(plan.ram_bytes), plan.devices.size(), plan.processes.size());
  for (const PlannedProcess& process : plan.processes) {
    const sandbox::CompiledPolicy& policy = *process.policy;
    absl::StrAppend(&text, "\n", process.name, ": ", RoleText(process.role));
    if (process.role == PlannedProcess::Role::kService) {
      const PlannedDevice& device = plan.devices[process.device];
      absl::StrAppend(&text, ", ", device.model->name, " at ", device.slot);
    }
    absl::StrAppendFormat(
        &text,
        "\n  policy      %s, %.12s, kill by default\n"
        "  namespaces  %s\n"
        "  ids         65534 inside; outside %d when root starts the VM, else "
        "the user's\n"
        "  root        %s\n"
        "  program     %s\n",
        policy.name, policy.sha256, NamespaceList(policy.clone_flags),
        process.outside_id,
        policy.empty_root      ? "empty, read-only"
        : process.tree.empty() ? "the host's /usr, read-only"
                               : absl::StrCat(process.tree, ", read-only"),
        process.program);
    for (const sandbox::Bind& bind : process.binds) {
      if (!bind.writable) continue;
      absl::StrAppend(&text, "  device      ", bind.source,
                      bind.mount_fd >= 0 ? ", a node of its id's own" : "",
                      "\n");
    }
    for (const PlannedFd& fd : process.fds) {
      absl::StrAppendFormat(&text, "  fd %-8d %s\n", fd.target,
                            NameOf(fd.resource, plan));
    }
    absl::StrAppend(&text, "  arguments   ",
                    absl::StrJoin(process.arguments, " ",
                                  [](std::string* out, const std::string& a) {
                                    out->append(ShellQuoted(a));
                                  }),
                    "\n");
  }
  return text;
}

}  // namespace bulkhead::vm

// Plan is everything that the launcher is going to start: processes, jails, fds
// and arguments. Making it touches nothing; --dry_run prints it; hand_over.h
// gives it to the launcher.
//
// TRUST    The owner's own words, checked.
// ERRORS   UserError: the description asks for more than a policy has room for.
// THREADS  Any.

#ifndef BULKHEAD_VM_PLAN_H_
#define BULKHEAD_VM_PLAN_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/frame.pb.h"
#include "proto/service_config.pb.h"
#include "sandbox/compiled_policy.h"
#include "sandbox/jail.h"
#include "vm/description.h"
#include "vm/devices.h"
#include "vm/ids.h"

namespace bulkhead::vm {

// What an fd of a process stands for.
struct Resource {
  enum class Kind {
    kUser,             // stdin, stdout, stderr: `index` 0 to 2
    kLog,              // the write end of the pipe of process number `index`
    kLogReader,        // and the console's end of it
    kControl,          // SEQPACKET between process number `index`
    kControlLauncher,  // and the launcher
    kRam,              // the guest's RAM, one memfd for all
    kChannelService,   // the two ends of device's SEQPACKET pair
    kChannelShim,
    kState,            // the device's state memfd
    kImage,            // device's image number `index`
    kConnector,        // and, for an NBD disk, its way to ask for sockets:
    kConnectorServer,  // SEQPACKET between the service and the connector
    kServerFolder,     // where the server's UNIX socket lies: O_PATH
    kImageReader,      // the image, opened anew, only to read
    kListener,         // device's socket for QEMU, listening
    kSocket,           // the same, as QEMU connects to it: O_PATH
    kProxyServer,      // STREAM pair in x-pci-proxy-dev's protocol: who serves
    kProxyUser,        // the device, and QEMU or the adapter
    kSerial,           // SOCK_STREAM: the guest's serial port, QEMU's end
    kSerialUser,       // and the console's
    kMonitor,          // SOCK_STREAM: QMP, QEMU's end
    kMonitorUser,      // and the console's
    kKernel,           // sealed copies
    kInitrd,
    kFirmware,
    kKvm,
  };
  Kind kind;
  int device = -1;
  int index = 0;
};

// Whether any process of the plan holds it.
struct Plan;
bool IsHeld(const Plan& plan, const Resource& resource);

struct PlannedFd {
  int target;
  Resource resource;
};

struct PlannedProcess {
  enum class Role { kService, kShim, kQemu, kConsole, kConnector, kRemote };
  Role role;
  std::string name;  // "lsi0", "lsi0.shim", "qemu", "console"
  int device = -1;
  int image = -1;  // a connector's, of that device
  const sandbox::CompiledPolicy* policy = nullptr;
  std::string program;  // a runfile; QEMU, kRemote: a path inside its root
  std::vector<std::string> arguments;
  std::vector<PlannedFd> fds;
  uid_t outside_id = 0;
  uint64_t mapped_bytes = 0;
  // The largest file that it may write, below what its policy says; filled in
  // when the images are open. 0: as the policy says.
  uint64_t file_bytes = 0;
  // QEMU and kRemote only.
  std::string tree;
  std::vector<sandbox::Bind> binds;
  std::vector<std::string> scratch;
};

struct PlannedDevice {
  std::string id;
  std::string slot;
  const DeviceModel* model;
  ServiceConfig config;  // the formats are filled in when the images are open
  std::vector<ImageUse> images;
  // By image number; filled in when the servers have been found.
  std::map<int, ConnectorConfig> servers;
};

struct Plan {
  std::string name;
  uint64_t ram_bytes = 0;
  uint32_t access_deadline_ms = 0;
  Frontend frontend = VFIO_USER;
  std::vector<PlannedDevice> devices;
  // In the order of starting: the console first, QEMU last.
  std::vector<PlannedProcess> processes;
};

// What the plan depends on besides the description.
struct PlanInputs {
  std::string qemu_tree;  // "" and binds: the host's own QEMU
  std::vector<sandbox::Bind> qemu_binds;
  std::string qemu_program;  // inside the root
  std::string ovmf;          // inside the root; for firmware: OVMF
  bool qemu_has_monitor_object = false;
  bool use_kvm = false;
  std::string kvm_cpu = "host";  // -cpu under KVM
  bool qemu_takes_kvm_fd = true;
  std::optional<sandbox::Bind> kvm_bind;  // else it opens /dev/kvm, there
  bool no_qemu = false;
  Frontend frontend = VFIO_USER;  // never AUTO
  // Ids outside the jails when root starts the VM (ids.h): the first is QEMU's,
  // then comes the console's, and after it two for each device, its service's
  // and its shim's.
  uid_t first_id = kDefaultFirstId;
  bool no_io_uring = false;  // the host does not permit it: workers instead
  // How long a service or shim may spin before it sleeps, where the description
  // says nothing.
  uint32_t spin_limit_us = 0;
  // Of devices that do not say how many they want.
  uint32_t queue_threads = 1;
  // By name: a device's model, "shim", "x_remote_adapter", "qemu", "console".
  const sandbox::CompiledPolicy* (*policy)(const std::string& name);
};

// The description is checked.
absl::StatusOr<Plan> MakePlan(const Description& description,
                              const PlanInputs& inputs);

// For people: --dry_run.
std::string FormatPlan(const Plan& plan);

std::string NameOf(const Resource& resource, const Plan& plan);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_PLAN_H_

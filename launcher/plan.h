// Plan is everything that the launcher is going to start: processes, jails, fds
// and arguments. Making it touches nothing; --dry_run prints it; start.h turns
// it into processes.
//
// THREADS  Any.

#ifndef BULKHEAD_LAUNCHER_PLAN_H_
#define BULKHEAD_LAUNCHER_PLAN_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/description.h"
#include "launcher/devices.h"
#include "proto/service_config.pb.h"
#include "sandbox/compiled_policy.h"
#include "sandbox/jail.h"

namespace bulkhead::launcher {

// What an fd of a process stands for. The launcher owns the other end, or the
// one copy, of each.
struct Resource {
  enum class Kind {
    kLog,             // the write end of the process's own pipe
    kRam,             // the guest's RAM, one memfd for all
    kChannelService,  // the two ends of device's SEQPACKET pair
    kChannelShim,
    kControl,   // SEQPACKET to the launcher
    kState,     // the device's state memfd
    kImage,     // device's image number `index`
    kListener,  // device's vfio-user socket, listening
    kSocket,    // the same, as QEMU connects to it: O_PATH
    kConsole,   // SOCK_STREAM to the launcher: the guest's serial port
    kMonitor,   // SOCK_STREAM to the launcher: QMP
    kKernel,    // sealed copies
    kInitrd,
    kFirmware,
    kKvm,
  };
  Kind kind;
  int device = -1;
  int index = 0;
};

struct PlannedFd {
  int target;
  Resource resource;
};

struct PlannedProcess {
  enum class Role { kService, kShim, kQemu };
  Role role;
  std::string name;  // "lsi0", "lsi0.shim", "qemu"
  int device = -1;
  const sandbox::CompiledPolicy* policy = nullptr;
  std::string program;  // a runfile; QEMU: a path inside its root
  std::vector<std::string> arguments;
  std::vector<PlannedFd> fds;
  uid_t outside_id = 0;
  uint64_t mapped_bytes = 0;
  // QEMU only.
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
};

struct Plan {
  std::string name;
  uint64_t ram_bytes = 0;
  uint32_t access_deadline_ms = 0;
  std::vector<PlannedDevice> devices;
  std::vector<PlannedProcess> processes;  // in the order of starting
};

// What the plan depends on besides the description.
struct PlanInputs {
  std::string qemu_tree;  // "" and binds: the host's own QEMU
  std::vector<sandbox::Bind> qemu_binds;
  std::string qemu_program;  // inside the root
  std::string ovmf;          // inside the root; for firmware: OVMF
  bool qemu_has_monitor_object = false;
  bool use_kvm = false;
  bool no_qemu = false;
  // How long a service or shim may spin before it sleeps.
  uint32_t spin_limit_us = 0;
  // By name: a device's model, "shim", "qemu".
  const sandbox::CompiledPolicy* (*policy)(const std::string& name);
};

// The description is checked.
absl::StatusOr<Plan> MakePlan(const Description& description,
                              const PlanInputs& inputs);

// For people: --dry_run.
std::string FormatPlan(const Plan& plan);

std::string NameOf(const Resource& resource, const Plan& plan);

// Ids outside the jails when root starts the VM: 0x42480000 for QEMU, and after
// it two for each device, its service's and its shim's.
inline constexpr uid_t kFirstOutsideId = 0x42480000;

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_PLAN_H_

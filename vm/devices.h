// The device table: how a device of the description becomes the configuration
// of a service. Adding a device adds a row (devices.cc).
//
// TRUST    A checked description.
// ERRORS   None: what cannot be is refused by CheckAndComplete.
// THREADS  Any.

#ifndef BULKHEAD_VM_DEVICES_H_
#define BULKHEAD_VM_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/service_config.pb.h"
#include "proto/vm.pb.h"

namespace bulkhead::vm {

// One file of one backing chain, in the order of the service's backend fds.
struct ImageUse {
  std::string field;  // "devices[0].lsi53c895a.target[0].disk"
  std::string path;   // as described
  Disk::Format format = Disk::AUTO;
  bool read_only = true;
  bool cdrom = false;
  uint32_t block_size = 512;
  int backend = 0;
  int parent = -1;      // index in BackendConfig.backing; -1: the active image
  bool is_key = false;  // not the image but the file with its password
  bool nbd = false;     // `path` is the URI of a server
  bool unix_socket = false;  // of the server
  bool direct = false;       // O_DIRECT
  // Nobody here knows its format, so it may become as large as the policy says.
  bool opaque = false;

  ImageFile* In(ServiceConfig* config) const;
};

struct DeviceModel {
  const char* name;     // the folder's, and the policy's
  const char* program;  // the service's runfile; null: QEMU itself
  // What x-pci-proxy-dev cannot carry of it ("MSI-X"); null: nothing.
  const char* needs_vfio_user;
  // Fills in `config`'s device and backends (all but the formats).
  void (*configure)(const VmDevice& device, const std::string& field,
                    ServiceConfig* config, std::vector<ImageUse>* images);
};

// Of a checked device.
const DeviceModel& ModelOf(const VmDevice& device);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_DEVICES_H_

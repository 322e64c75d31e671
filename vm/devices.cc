#include "vm/devices.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/service_fds.h"
#include "vm/nbd_uri.h"
#include "vm/size.h"

namespace bulkhead::vm {
namespace {

constexpr uint32_t kCdromBlockBytes = 2048;

uint64_t Bytes(const std::string& text) {
  uint64_t bytes = 0;
  (void)ParseSize(text, &bytes);  // checked before
  return bytes;
}

// Appends `disk` with its whole chain; its fds follow those before.
void AddBackend(const Disk& disk, bool cdrom, const std::string& field,
                ServiceConfig* config, std::vector<ImageUse>* images) {
  const int backend_index = config->backends_size();
  BackendConfig* backend = config->add_backends();
  backend->set_read_only(disk.access() == Disk::READ_ONLY);
  ThrottleConfig* throttle = backend->mutable_throttle();
  throttle->set_iops(disk.limits().iops());
  throttle->set_burst_ios(disk.limits().burst_iops());
  throttle->set_bytes_per_second(Bytes(disk.limits().bandwidth()));
  throttle->set_burst_bytes(Bytes(disk.limits().burst()));

  backend->mutable_cache()->set_table_bytes(Bytes(disk.cache().tables()));
  backend->mutable_cache()->set_decoded_bytes(Bytes(disk.cache().decoded()));

  const auto next_fd = [images] {
    return kFirstBackendFd + static_cast<int>(images->size());
  };
  const auto add = [&](ImageFile* file, ImageUse use,
                       const std::string& key_file) {
    file->set_fd(next_fd());
    file->set_name(use.path);
    use.cdrom = cdrom;
    use.backend = backend_index;
    images->push_back(use);
    if (key_file.empty()) return;
    file->set_key_fd(next_fd());
    use.path = key_file;
    use.read_only = true;
    use.is_key = true;
    use.direct = false;
    images->push_back(std::move(use));
  };
  const uint32_t block_bytes = cdrom                    ? kCdromBlockBytes
                               : disk.block_size() != 0 ? disk.block_size()
                                                        : 512;
  backend->set_ignore_flush(disk.throw_away());
  if (disk.has_nbd()) {
    const absl::StatusOr<NbdUri> uri = ParseNbdUri(disk.nbd().uri());
    const auto others =
        std::count_if(images->begin(), images->end(),
                      [](const ImageUse& image) { return image.nbd; });
    NbdConfig* nbd = backend->mutable_nbd();
    nbd->set_connector_fd(kFirstConnectorFd + static_cast<int>(others));
    nbd->set_export_name(uri.ok() && disk.nbd().export_().empty()
                             ? uri->export_name
                             : disk.nbd().export_());
    nbd->set_name(disk.nbd().uri());
    nbd->set_patience_seconds(disk.nbd().patience_seconds());
    nbd->set_block_bytes(block_bytes);
    images->push_back({.field = field,
                       .path = disk.nbd().uri(),
                       .read_only = backend->read_only(),
                       .cdrom = cdrom,
                       .block_size = block_bytes,
                       .backend = backend_index,
                       .nbd = true,
                       .unix_socket = uri.ok() && !uri->socket_path.empty()});
    return;
  }
  backend->set_engine(disk.engine() == Disk::IO_URING ? IO_URING : WORKERS);
  add(backend->mutable_image(),
      {.field = field,
       .path = disk.image(),
       .format = disk.format(),
       .read_only = backend->read_only(),
       .block_size = block_bytes,
       .direct = disk.direct()},
      disk.key_file());
  for (int i = 0; i < disk.backing_size(); ++i) {
    add(backend->add_backing(),
        {.field = absl::StrCat(field, ".backing[", i, "]"),
         .path = disk.backing(i).image(),
         .format = disk.backing(i).format(),
         .parent = i,
         .direct = disk.direct()},
        disk.backing(i).key_file());
  }
}

void ConfigureLsi53c895a(const VmDevice& device, const std::string& field,
                         ServiceConfig* config, std::vector<ImageUse>* images) {
  Lsi53c895aConfig* adapter = config->mutable_lsi53c895a();
  const Lsi53c895a& described = device.lsi53c895a();
  for (int i = 0; i < described.target_size(); ++i) {
    const ScsiTarget& target = described.target(i);
    const bool cdrom = target.has_cdrom();
    const Disk& disk = cdrom ? target.cdrom() : target.disk();
    ScsiLogicalUnit* unit = adapter->add_units();
    unit->set_target(target.id());
    unit->set_lun(target.lun());
    unit->set_backend(config->backends_size());
    unit->set_kind(cdrom ? ScsiLogicalUnit::CDROM : ScsiLogicalUnit::DISK);
    unit->set_block_size_bytes(cdrom ? kCdromBlockBytes : disk.block_size());
    unit->set_serial(
        disk.serial().empty()
            ? absl::StrCat(device.id(), "-", target.id(), "-", target.lun())
                  .substr(0, 20)
            : disk.serial());
    AddBackend(disk, cdrom,
               absl::StrCat(field, ".lsi53c895a.target[", i, "].",
                            cdrom ? "cdrom" : "disk"),
               config, images);
  }
}

void ConfigureVirtioBlk(const VmDevice& device, const std::string& field,
                        ServiceConfig* config, std::vector<ImageUse>* images) {
  const VirtioBlk& described = device.virtio_blk();
  const Disk& disk = described.disk();
  VirtioBlkConfig* block = config->mutable_virtio_blk();
  block->set_queues(described.queues());
  block->set_block_size_bytes(disk.block_size());
  block->set_serial(disk.serial().empty() ? device.id().substr(0, 20)
                                          : disk.serial());
  block->set_rings(described.rings() == VirtioBlk::SPLIT
                       ? VirtioBlkConfig::SPLIT
                       : VirtioBlkConfig::ANY);
  block->set_in_order(described.in_order());
  block->set_queue_threads(described.queue_threads());
  AddBackend(disk, /*cdrom=*/false, absl::StrCat(field, ".virtio_blk.disk"),
             config, images);
}

void ConfigureNvme(const VmDevice& device, const std::string& field,
                   ServiceConfig* config, std::vector<ImageUse>* images) {
  const Nvme& described = device.nvme();
  NvmeConfig* nvme = config->mutable_nvme();
  nvme->set_serial(described.serial().empty() ? device.id().substr(0, 20)
                                              : described.serial());
  nvme->set_queue_threads(described.queue_threads());
  for (int i = 0; i < described.namespace__size(); ++i) {
    const Disk& disk = described.namespace_(i);
    NvmeNamespaceConfig* space = nvme->add_namespaces();
    space->set_backend(config->backends_size());
    space->set_block_size_bytes(disk.block_size());
    AddBackend(disk, /*cdrom=*/false,
               absl::StrCat(field, ".nvme.namespace[", i, "]"), config, images);
  }
}

// What the -drive of an image says of its format; AUTO: nothing, or one that is
// unknown here.
Disk::Format FormatInArguments(const QemuRemote& remote,
                               const std::string& name) {
  for (const std::string& argument : remote.args()) {
    const std::vector<std::string> options = absl::StrSplit(argument, ',');
    const auto has = [&options](const std::string& option) {
      return std::find(options.begin(), options.end(), option) != options.end();
    };
    if (!has(absl::StrCat("file={", name, "}"))) continue;
    if (has("format=raw")) return Disk::RAW;
    if (has("format=qcow2")) return Disk::QCOW2;
  }
  return Disk::AUTO;
}

// The arguments are made by plan.cc; here are the images.
void ConfigureQemuRemote(const VmDevice& device, const std::string& field,
                         ServiceConfig* config, std::vector<ImageUse>* images) {
  const QemuRemote& remote = device.qemu_remote();
  for (int i = 0; i < remote.image_size(); ++i) {
    config->add_backends();
    const Disk::Format format =
        FormatInArguments(remote, remote.image(i).name());
    images->push_back(
        {.field = absl::StrCat(field, ".qemu_remote.image[", i, "]"),
         .path = remote.image(i).image(),
         // QEMU's affair, but for how large the file may become.
         .format = format == Disk::QCOW2 ? Disk::QCOW2 : Disk::RAW,
         .read_only = remote.image(i).access() == Disk::READ_ONLY,
         .block_size = 1,
         .backend = i,
         .opaque = format == Disk::AUTO});
  }
}

constexpr char kMsix[] = "MSI-X and 64-bit BARs";

constexpr DeviceModel kQemuRemote = {"qemu_remote", nullptr, nullptr,
                                     ConfigureQemuRemote};
constexpr DeviceModel kLsi53c895a = {
    "lsi53c895a", "services/lsi53c895a/service", nullptr, ConfigureLsi53c895a};
constexpr DeviceModel kVirtioBlk = {"virtio_blk", "services/virtio_blk/service",
                                    kMsix, ConfigureVirtioBlk};
constexpr DeviceModel kNvme = {"nvme", "services/nvme/service", kMsix,
                               ConfigureNvme};

}  // namespace

ImageFile* ImageUse::In(ServiceConfig* config) const {
  BackendConfig* in = config->mutable_backends(backend);
  return parent < 0 ? in->mutable_image() : in->mutable_backing(parent);
}

const DeviceModel& ModelOf(const VmDevice& device) {
  switch (device.model_case()) {
    case VmDevice::kQemuRemote:
      return kQemuRemote;
    case VmDevice::kVirtioBlk:
      return kVirtioBlk;
    case VmDevice::kNvme:
      return kNvme;
    case VmDevice::kLsi53C895A:
    case VmDevice::MODEL_NOT_SET:  // refused by CheckAndComplete
      break;
  }
  return kLsi53c895a;
}

}  // namespace bulkhead::vm

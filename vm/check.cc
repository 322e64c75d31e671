#include "vm/check.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vm/nbd_uri.h"
#include "vm/size.h"

namespace bulkhead::vm {
namespace {

constexpr uint64_t kMinRam = uint64_t{16} << 20;
constexpr uint64_t kMaxRam = uint64_t{1} << 40;
constexpr uint32_t kMaxVcpus = 64;
constexpr uint32_t kMaxSpinLimitUs = 1000;  // a service takes no more
constexpr int kMaxDevices = 16;
constexpr uint64_t kMinCache = 512 << 10;  // of what a disk remembers
constexpr uint64_t kMaxCache = uint64_t{128} << 20;
constexpr size_t kMaxPath = 4095;
constexpr size_t kMaxCmdline = 2047;  // of Linux on x86
// 0 and 1 are the board's; what is given out starts where people expect it.
constexpr uint32_t kFirstFreeSlot = 4;
constexpr uint32_t kSlots = 32;
constexpr uint32_t kAdapterTarget = 7;
constexpr int kMaxNvmeNamespaces = 16;
// Each has an interrupt of its own, and a service has few descriptors.
constexpr uint32_t kMaxVirtioQueues = 16;
constexpr uint32_t kMaxQueueThreads = 4;
constexpr uint32_t kMaxDefaultVirtioQueues = 4;

bool IsName(const std::string& text, bool digit_first, const char* others) {
  if (text.empty() || text.size() > 32) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool letter = c >= 'a' && c <= 'z';
    const bool digit = c >= '0' && c <= '9';
    const bool other =
        std::string(others).find(c) != std::string::npos && i > 0;
    if (!letter && !other && !(digit && (i > 0 || digit_first))) return false;
  }
  return true;
}

class Checker {
 public:
  explicit Checker(Description* description)
      : description_(*description), spec_(description->spec()) {}

  absl::Status Check() {
    CheckMachine();
    CheckBoot();
    CheckDevices();
    return std::move(errors_);
  }

 private:
  void Error(const std::string& path, const char* id, const std::string& what,
             const std::string& fix) {
    errors_ = Join(std::move(errors_),
                   description_.ErrorAt(path, kExitBadConfig, id, what, fix));
  }

  // A path or text that reaches another program's command line.
  void CheckText(const std::string& path, const std::string& text,
                 size_t longest) {
    if (text.size() > longest || text.find('\0') != std::string::npos ||
        text.find('\n') != std::string::npos) {
      Error(path, "BH-C103", "too long, or has a line break in it",
            absl::StrCat("at most ", longest, " bytes on one line"));
    }
  }

  void CheckMachine() {
    if (spec_.name().empty()) spec_.set_name("vm");
    if (!IsName(spec_.name(), true, "-")) {
      Error("name", "BH-C101", "\"" + spec_.name() + "\" is not a name",
            "1 to 32 of a-z, 0-9 and -, not beginning with -");
    }
    Machine* machine = spec_.mutable_machine();
    if (machine->memory().empty()) machine->set_memory("512MiB");
    uint64_t ram = 0;
    if (!ParseSize(machine->memory(), &ram)) {
      Error("machine.memory", "BH-C103",
            "\"" + machine->memory() + "\" is not a size",
            "write a number and a unit, for example 512MiB");
    } else if (ram < kMinRam || ram > kMaxRam || ram % (uint64_t{1} << 20)) {
      Error("machine.memory", "BH-C103", FormatSize(ram) + " is not possible",
            "whole MiB, from 16MiB to 1TiB");
    }
    if (spec_.access_deadline_ms() > 60000) {
      Error("access_deadline_ms", "BH-C103", "longer than QEMU waits",
            "at most 60000");
    }
    if (spec_.spin_limit_us() > kMaxSpinLimitUs) {
      Error(
          "spin_limit_us", "BH-C103",
          absl::StrCat(spec_.spin_limit_us(), " is longer than a sleep costs"),
          absl::StrCat("at most ", kMaxSpinLimitUs, "; 0: never spin"));
    }
    if (machine->vcpus() == 0) machine->set_vcpus(1);
    if (machine->vcpus() > kMaxVcpus) {
      Error("machine.vcpus", "BH-C103",
            absl::StrCat(machine->vcpus(), " is too many"),
            absl::StrCat("1 to ", kMaxVcpus));
    }
  }

  void CheckBoot() {
    const Boot& boot = spec_.boot();
    CheckText("boot.kernel", boot.kernel(), kMaxPath);
    CheckText("boot.initrd", boot.initrd(), kMaxPath);
    CheckText("boot.firmware_image", boot.firmware_image(), kMaxPath);
    CheckText("boot.cmdline", boot.cmdline(), kMaxCmdline);
    if (!boot.kernel().empty()) return;
    for (const char* field : {"initrd", "cmdline"}) {
      if (std::string(field) == "initrd" ? boot.initrd().empty()
                                         : boot.cmdline().empty()) {
        continue;
      }
      Error(absl::StrCat("boot.", field), "BH-C111",
            "there is no kernel to give it to",
            "name boot.kernel, or leave it out to boot from a disk");
    }
  }

  void CheckDevices() {
    if (spec_.devices_size() > kMaxDevices) {
      Error("devices", "BH-C103",
            absl::StrCat(spec_.devices_size(), " are too many"),
            absl::StrCat("at most ", kMaxDevices));
      return;
    }
    std::set<std::string> ids;
    for (int i = 0; i < spec_.devices_size(); ++i) {
      VmDevice* device = spec_.mutable_devices(i);
      const std::string path = absl::StrCat("devices[", i, "]");
      if (device->id().empty()) device->set_id(absl::StrCat("dev", i));
      if (!IsName(device->id(), false, "-_")) {
        Error(path + ".id", "BH-C101", "\"" + device->id() + "\" is not an id",
              "1 to 32 of a-z, 0-9, - and _, beginning with a letter");
      } else if (!ids.insert(device->id()).second) {
        Error(path + ".id", "BH-C102",
              "\"" + device->id() + "\" is another device's id",
              "each device needs an id of its own");
      }
      if (device->boot_index() > 1000) {
        Error(path + ".boot_index", "BH-C103", "too large", "1 to 1000");
      }
      CheckSlot(path, *device);
      CheckModel(path, device);
    }
    GiveSlots();
  }

  // The board has one bus and gives each device one function.
  void CheckSlot(const std::string& path, const VmDevice& device) {
    const std::string& slot = device.slot();
    if (slot.empty()) return;
    const uint32_t number = SlotNumber(device);
    const bool q35 = spec_.machine().type() == Machine::Q35;
    if (number >= kSlots || slot != absl::StrFormat("00:%02x.0", number)) {
      Error(path + ".slot", "BH-C109", "\"" + slot + "\" is not a slot",
            "bus 00, a device from 02 to 1f, function 0: \"00:04.0\"");
    } else if (number == 0 || (!q35 && number == 1) || (q35 && number == 31)) {
      Error(path + ".slot", "BH-C109", "slot " + slot + " is the board's own",
            "take one from 00:02.0 to 00:1e.0");
    } else if (!slots_.emplace(number, device.id()).second) {
      Error(path + ".slot", "BH-C102",
            absl::StrCat("slot ", slot, " is taken by ", slots_[number]),
            "give each device a slot of its own, or leave slot out");
    }
  }

  void GiveSlots() {
    uint32_t next = kFirstFreeSlot;
    for (VmDevice& device : *spec_.mutable_devices()) {
      if (!device.slot().empty()) continue;
      while (slots_.count(next) != 0) ++next;
      slots_.emplace(next, device.id());
      device.set_slot(absl::StrFormat("00:%02x.0", next));
    }
  }

  void CheckModel(const std::string& path, VmDevice* device) {
    switch (device->model_case()) {
      case VmDevice::kLsi53C895A:
        CheckScsi(path + ".lsi53c895a", device->mutable_lsi53c895a());
        return;
      case VmDevice::kVirtioBlk:
        CheckVirtioBlk(path + ".virtio_blk", device->mutable_virtio_blk());
        return;
      case VmDevice::kNvme:
        CheckNvme(path + ".nvme", device->mutable_nvme());
        return;
      case VmDevice::kQemuRemote:
        CheckQemuRemote(path + ".qemu_remote", *device);
        return;
      case VmDevice::MODEL_NOT_SET:
        Error(path, "BH-C111", "what device is it?",
              "add a model, for example lsi53c895a { }");
        return;
    }
  }

  void CheckVirtioBlk(const std::string& path, VirtioBlk* device) {
    if (device->queues() > kMaxVirtioQueues) {
      Error(path + ".queues", "BH-C103",
            absl::StrCat(device->queues(), " are too many"),
            absl::StrCat("1 to ", kMaxVirtioQueues));
    }
    if (device->queues() == 0) {
      device->set_queues(
          std::min(spec_.machine().vcpus(), kMaxDefaultVirtioQueues));
    }
    CheckQueueThreads(path, device->queue_threads(), device->disk());
    CheckDisk(path + ".disk", device->disk());
  }

  void CheckQueueThreads(const std::string& path, uint32_t threads,
                         const Disk& disk) {
    if (threads > kMaxQueueThreads) {
      Error(path + ".queue_threads", "BH-C103",
            absl::StrCat(threads, " are too many"),
            absl::StrCat("1 to ", kMaxQueueThreads));
    }
    const bool shared =
        !disk.has_nbd() && disk.format() == Disk::RAW && !disk.has_limits();
    if (threads > 1 && !shared) {
      Error(path + ".queue_threads", "BH-C103",
            "only a raw image without limits can be served by several threads",
            "leave it out");
    }
  }

  void CheckNvme(const std::string& path, Nvme* device) {
    CheckSerial(path + ".serial", device->serial());
    if (device->namespace__size() == 0) {
      Error(path + ".namespace", "BH-C111", "it has no namespace",
            "add namespace { image: \"FILE\" }");
    }
    if (device->namespace__size() > kMaxNvmeNamespaces) {
      Error(path + ".namespace", "BH-C103",
            absl::StrCat(device->namespace__size(), " are too many"),
            absl::StrCat("at most ", kMaxNvmeNamespaces));
    }
    for (int i = 0; i < device->namespace__size(); ++i) {
      const std::string here = absl::StrCat(path, ".namespace[", i, "]");
      if (!device->namespace_(i).serial().empty()) {
        Error(here + ".serial", "BH-C103",
              "the serial number is the controller's", "put it into nvme { }");
      }
      CheckQueueThreads(path, device->queue_threads(), device->namespace_(i));
      CheckDisk(here, device->namespace_(i));
    }
  }

  void CheckScsi(const std::string& path, Lsi53c895a* adapter) {
    std::set<std::pair<uint32_t, uint32_t>> taken;
    for (int i = 0; i < adapter->target_size(); ++i) {
      ScsiTarget* unit = adapter->mutable_target(i);
      const std::string here = absl::StrCat(path, ".target[", i, "]");
      if (unit->id() > 15 || unit->id() == kAdapterTarget) {
        Error(here + ".id", "BH-C103",
              absl::StrCat(unit->id(), " is not a target"),
              "0 to 15, and not 7, which is the adapter's own");
      }
      if (unit->lun() > 7) {
        Error(here + ".lun", "BH-C103", absl::StrCat(unit->lun(), " is no LUN"),
              "0 to 7");
      }
      if (!taken.emplace(unit->id(), unit->lun()).second) {
        Error(here, "BH-C102",
              absl::StrCat("target ", unit->id(), " LUN ", unit->lun(),
                           " is there twice"),
              "give each medium an address of its own");
      }
      switch (unit->medium_case()) {
        case ScsiTarget::kDisk:
          CheckDisk(here + ".disk", *unit->mutable_disk());
          break;
        case ScsiTarget::kCdrom:
          unit->mutable_cdrom()->set_access(Disk::READ_ONLY);
          CheckDisk(here + ".cdrom", *unit->mutable_cdrom());
          break;
        case ScsiTarget::MEDIUM_NOT_SET:
          Error(here, "BH-C111", "what is in it?",
                "add disk { image: \"FILE\" } or cdrom { image: \"FILE\" }");
      }
    }
  }

  // What the launcher adds itself must not be there twice; whatever else QEMU
  // is told, it is told in its jail.
  void CheckQemuRemote(const std::string& path, const VmDevice& device) {
    const QemuRemote& remote = device.qemu_remote();
    if (remote.args_size() == 0 || remote.args_size() > 256) {
      Error(path + ".args", "BH-C111",
            remote.args_size() == 0 ? "what device is it?" : "too many",
            "args: \"-device\" args: \"lsi53c895a,id=" + device.id() + "\"");
    }
    for (int i = 0; i < remote.args_size(); ++i) {
      const std::string here = absl::StrCat(path, ".args[", i, "]");
      CheckText(here, remote.args(i), kMaxPath);
      for (const char* taken :
           {"-machine", "-M", "-daemonize", "-nodefaults", "-add-fd"}) {
        if (remote.args(i) != taken &&
            remote.args(i) != "-" + std::string(taken)) {
          continue;
        }
        Error(here, "BH-C103",
              absl::StrCat(taken, " is the launcher's to give"),
              "leave it out");
      }
      if (remote.args(i).find("x-remote-object") != std::string::npos) {
        Error(here, "BH-C103", "the x-remote-object is the launcher's to make",
              "leave it out; devid: names the device");
      }
    }
    if (!remote.devid().empty() && !IsName(remote.devid(), false, "-_")) {
      Error(path + ".devid", "BH-C101",
            "\"" + remote.devid() + "\" is not an id",
            "as in -device ...,id=ID");
    }
    std::set<std::string> names;
    for (int i = 0; i < remote.image_size(); ++i) {
      const std::string here = absl::StrCat(path, ".image[", i, "]");
      const std::string& name = remote.image(i).name();
      CheckImageName(here + ".image", remote.image(i).image());
      if (!IsName(name, false, "-_") || !names.insert(name).second) {
        Error(here + ".name", "BH-C101",
              "\"" + name + "\" is no name, or another image's",
              "1 to 32 of a-z, 0-9, - and _, beginning with a letter");
      }
    }
  }

  void CheckDisk(const std::string& path, const Disk& disk) {
    if (disk.has_nbd()) {
      CheckNbd(path, disk);
    } else {
      CheckImageName(path + ".image", disk.image());
    }
    for (int i = 0; i < disk.backing_size(); ++i) {
      CheckImageName(absl::StrCat(path, ".backing[", i, "].image"),
                     disk.backing(i).image());
    }
    for (const std::string& size :
         {disk.cache().tables(), disk.cache().decoded()}) {
      uint64_t bytes = 0;
      if (size.empty() || (ParseSize(size, &bytes) && bytes >= kMinCache &&
                           bytes <= kMaxCache)) {
        continue;
      }
      Error(path + ".cache", "BH-C103", "\"" + size + "\" is not possible",
            "\"512KiB\" to \"128MiB\"");
    }
    const bool encrypted = !disk.key_file().empty();
    if (encrypted && disk.access() != Disk::READ_ONLY) {
      Error(path + ".key_file", "BH-C103",
            "images with legacy AES encryption are read-only",
            "access: READ_ONLY, or qemu-img convert to one without");
    }
    if (disk.format() == Disk::RAW && (disk.backing_size() > 0 || encrypted)) {
      Error(path + (encrypted ? ".key_file" : ".backing"), "BH-C103",
            encrypted ? "a raw image has no key" : "a raw image has no parent",
            "leave it out, or format: QCOW2");
    }
    if (disk.block_size() != 0 && disk.block_size() != 512 &&
        disk.block_size() != 4096) {
      Error(path + ".block_size", "BH-C103",
            absl::StrCat(disk.block_size(), " is not possible"), "512 or 4096");
    }
    CheckSerial(path + ".serial", disk.serial());
    CheckLimit(path + ".limits.bandwidth", disk.limits().bandwidth());
    CheckLimit(path + ".limits.burst", disk.limits().burst());
  }

  void CheckSerial(const std::string& path, const std::string& serial) {
    bool printable = true;
    for (const char c : serial) printable &= c >= 0x20 && c <= 0x7e;
    if (!printable || serial.size() > 20) {
      Error(path, "BH-C103", "not a serial number",
            "at most 20 printable ASCII characters");
    }
  }

  void CheckNbd(const std::string& path, const Disk& disk) {
    CheckText(path + ".nbd.uri", disk.nbd().uri(), kMaxPath);
    CheckText(path + ".nbd.export", disk.nbd().export_(), kMaxPath);
    const absl::StatusOr<NbdUri> uri = ParseNbdUri(disk.nbd().uri());
    if (!uri.ok()) {
      Error(path + ".nbd.uri", "BH-C112",
            "\"" + disk.nbd().uri() +
                "\": " + std::string(uri.status().message()),
            "nbdinfo URI tries one out");
    } else if (!uri->export_name.empty() && !disk.nbd().export_().empty()) {
      Error(path + ".nbd.export", "BH-C102", "the URI names an export as well",
            "leave one of them out");
    }
    if (!disk.image().empty() || disk.backing_size() > 0) {
      Error(path, "BH-C102", "an image and a server",
            "name an image, or nbd { uri: ... }");
    }
    if (disk.format() == Disk::QCOW2) {
      Error(path + ".format", "BH-C103",
            "what a server exports is taken as it is",
            "let the server open the qcow2 image (qemu-nbd -f qcow2), and "
            "leave format out");
    }
    if (disk.engine() == Disk::IO_URING || disk.direct()) {
      Error(path, "BH-C103", "engine and direct are about files",
            "leave them out for a server");
    }
    if (disk.nbd().patience_seconds() > 86400) {
      Error(path + ".nbd.patience_seconds", "BH-C103", "longer than a day",
            "at most 86400");
    }
  }

  void CheckImageName(const std::string& path, const std::string& image) {
    CheckText(path, image, kMaxPath);
    if (image.empty()) {
      Error(path, "BH-C111", "the image is missing", "image: \"FILE\"");
    }
  }

  void CheckLimit(const std::string& path, const std::string& text) {
    uint64_t bytes = 0;
    if (text.empty() || (ParseSize(text, &bytes) && bytes > 0)) return;
    Error(path, "BH-C103", "\"" + text + "\" is not a size",
          "write a number and a unit, for example 64MiB");
  }

  const Description& description_;
  VmSpec& spec_;
  std::map<uint32_t, std::string> slots_;
  absl::Status errors_;
};

}  // namespace

absl::Status CheckAndComplete(Description* description) {
  return Checker(description).Check();
}

uint32_t SlotNumber(const VmDevice& device) {
  unsigned number = kSlots;
  const std::string& slot = device.slot();
  if (slot.size() != 7 || std::sscanf(slot.c_str(), "00:%2x.0", &number) != 1) {
    return kSlots;
  }
  return number;
}

uint64_t RamBytes(const VmSpec& spec) {
  uint64_t bytes = 0;
  (void)ParseSize(spec.machine().memory(), &bytes);
  return bytes;
}

}  // namespace bulkhead::vm

#include "vm/flags.h"

#include <functional>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace bulkhead::vm {
namespace {

using OptionalText = std::optional<std::string> Flags::*;

struct FlagRow {
  const char* name;
  const char* value;  // how help shows the value; null: a switch
  const char* help;
  std::function<bool(Flags*, const std::string&)> apply;
};

std::function<bool(Flags*, const std::string&)> Text(OptionalText field) {
  return [field](Flags* flags, const std::string& value) {
    flags->*field = value;
    return true;
  };
}

std::function<bool(Flags*, const std::string&)> Text(
    std::string Flags::*field) {
  return [field](Flags* flags, const std::string& value) {
    flags->*field = value;
    return !value.empty();
  };
}

std::function<bool(Flags*, const std::string&)> Part(PartFlag::Kind kind) {
  return [kind](Flags* flags, const std::string& value) {
    flags->parts.push_back({kind, value});
    return true;
  };
}

std::function<bool(Flags*, const std::string&)> Switch(bool Flags::*field) {
  return [field](Flags* flags, const std::string& value) {
    flags->*field = value != "false";
    return value.empty() || value == "true" || value == "false";
  };
}

const std::vector<FlagRow>& Rows() {
  static const auto& rows = *new std::vector<FlagRow>{
      {"config", "FILE", "the VM as a textproto (proto/vm.proto)",
       Text(&Flags::config)},
      {"set", "PATH=VALUE", "one field of it: devices.disk0.slot='\"00:05.0\"'",
       [](Flags* flags, const std::string& value) {
         flags->set.push_back(value);
         return absl::StrContains(value, '=');
       }},
      {"device", "MODEL,id=ID[,slot=00:04.0][,boot_index=1][,queues=N]",
       "a device: lsi53c895a, nvme, virtio_blk", Part(PartFlag::Kind::kDevice)},
      {"disk",
       "ID[:TARGET[.LUN]],file=F[,format=qcow2|raw][,readonly=on]"
       "[,backing=F]...[,serial=S][,block_size=N]",
       "a disk on it (a comma in a value is written twice)",
       Part(PartFlag::Kind::kDisk)},
      {"cdrom", "ID:TARGET[.LUN],file=F", "a CD-ROM on it",
       Part(PartFlag::Kind::kCdrom)},
      {"name", "NAME", "of the VM", Text(&Flags::name)},
      {"machine", "pc|q35", "", Text(&Flags::machine)},
      {"memory", "SIZE", "guest RAM: 512MiB, 1G", Text(&Flags::memory)},
      {"cpus", "N", "virtual CPUs", Text(&Flags::cpus)},
      {"accel", "auto|kvm|tcg", "", Text(&Flags::accel)},
      {"kernel", "FILE", "a Linux kernel to boot", Text(&Flags::kernel)},
      {"initrd", "FILE", "its initial RAM disk", Text(&Flags::initrd)},
      {"append", "TEXT", "its command line", Text(&Flags::append)},
      {"firmware", "default|ovmf|FILE",
       "default: SeaBIOS; ovmf: UEFI; or an image for -bios",
       Text(&Flags::firmware)},
      {"frontend", "auto|vfio_user|x_pci_proxy",
       "what QEMU and the shims speak (auto: what this QEMU, its accelerator "
       "and the devices can)",
       Text(&Flags::frontend)},
      {"qemu", "PATH", "a QEMU instead of the one found", Text(&Flags::qemu)},
      {"check", nullptr,
       "boot the demo VM, prove the disk from inside and outside, power off",
       Switch(&Flags::check)},
      {"dry_run", nullptr, "print the plan and start nothing",
       Switch(&Flags::dry_run)},
      {"no_qemu", nullptr,
       "start services and shims only, for a QEMU of your own",
       Switch(&Flags::no_qemu)},
      {"runtime_dir", "DIR", "where --no_qemu puts its sockets",
       Text(&Flags::runtime_dir)},
      {"print_qemu_args", "shell|json|libvirt",
       "print what --no_qemu wants QEMU to be started with, and stop",
       [](Flags* flags, const std::string& value) {
         flags->print_qemu_args = value;
         return value == "shell" || value == "json" || value == "libvirt";
       }},
      {"policy_mode", "enforce|learn",
       "learn: enforce no filter, and say at the end what the policies lack or "
       "could do without; with trusted guests only",
       [](Flags* flags, const std::string& value) {
         flags->learn = value == "learn";
         return value == "learn" || value == "enforce";
       }},
      {"grace", "SECONDS", "how long a guest may take to power off (10)",
       [](Flags* flags, const std::string& value) {
         return absl::SimpleAtoi(value, &flags->grace_seconds) &&
                flags->grace_seconds <= 3600;
       }},
      {"first_id", "N",
       "when root starts VMs: the first of 65536 ids that no account uses",
       [](Flags* flags, const std::string& value) {
         return absl::SimpleAtoi(value, &flags->first_id) &&
                flags->first_id > 0 && flags->first_id < 0xfffe0000;
       }},
      {"version", nullptr, "", Switch(&Flags::version)},
      {"help", nullptr, "", Switch(&Flags::help)},
  };
  return rows;
}

absl::Status UsageError(const std::string& where, const std::string& what,
                        const std::string& fix) {
  return UserError{.exit_code = kExitUsage,
                   .id = "BH-U001",
                   .where = Escape(where),
                   .what = what,
                   .fix = fix}
      .ToStatus();
}

// "a,b=c,,d" -> {"a", "b=c,d"}.
std::vector<std::string> SplitCommas(const std::string& text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back().push_back(text[i]);
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      parts.back().push_back(',');
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

// The value of one --device, --disk or --cdrom while it is taken apart.
struct PartText {
  std::string flag;  // as the user wrote it, for errors
  std::string head;
  std::vector<std::pair<std::string, std::string>> options;

  absl::Status Error(const std::string& what, const std::string& fix) const {
    return UsageError(flag, what, fix);
  }
};

PartText SplitPart(const std::string& flag, const std::string& value) {
  PartText part{absl::StrCat(flag, " ", value), "", {}};
  const std::vector<std::string> pieces = SplitCommas(value);
  part.head = pieces[0];
  for (size_t i = 1; i < pieces.size(); ++i) {
    const size_t equals = pieces[i].find('=');
    part.options.emplace_back(
        pieces[i].substr(0, equals),
        equals == std::string::npos ? "" : pieces[i].substr(equals + 1));
  }
  return part;
}

template <typename Enum, typename Parse>
bool ParseEnum(std::string text, Parse parse, Enum* value) {
  for (char& c : text) c = absl::ascii_toupper(static_cast<unsigned char>(c));
  return parse(text, value);
}

std::string MakeAbsolute(const std::string& directory,
                         const std::string& path) {
  if (path.empty() || path[0] == '/' || directory.empty()) return path;
  return absl::StrCat(directory, "/", path);
}

absl::Status AddDevice(const PartText& part, Description* description) {
  VmDevice* device = description->spec().add_devices();
  description->SetByFlag(
      absl::StrCat("devices[", description->spec().devices_size() - 1, "]"),
      part.flag);
  if (part.head == "lsi53c895a") {
    device->mutable_lsi53c895a();
  } else if (part.head == "virtio_blk") {
    device->mutable_virtio_blk();
  } else if (part.head == "nvme") {
    device->mutable_nvme();
  } else {
    return part.Error(absl::StrCat("unknown device ", Escape(part.head)),
                      "devices: lsi53c895a, nvme, virtio_blk");
  }
  for (const auto& [key, value] : part.options) {
    uint32_t index = 0;
    VirtioBlk::Rings rings;
    if (key == "id") {
      device->set_id(value);
    } else if (key == "slot") {
      device->set_slot(value);
    } else if (key == "boot_index" && absl::SimpleAtoi(value, &index)) {
      device->set_boot_index(index);
    } else if (key == "queues" && device->has_virtio_blk() &&
               absl::SimpleAtoi(value, &index)) {
      device->mutable_virtio_blk()->set_queues(index);
    } else if (key == "queue_threads" && device->has_virtio_blk() &&
               absl::SimpleAtoi(value, &index)) {
      device->mutable_virtio_blk()->set_queue_threads(index);
    } else if (key == "rings" && device->has_virtio_blk() &&
               ParseEnum(value, VirtioBlk::Rings_Parse, &rings)) {
      device->mutable_virtio_blk()->set_rings(rings);
    } else if (key == "queue_threads" && device->has_nvme() &&
               absl::SimpleAtoi(value, &index)) {
      device->mutable_nvme()->set_queue_threads(index);
    } else if (key == "serial" && device->has_nvme()) {
      device->mutable_nvme()->set_serial(value);
    } else {
      return part.Error(absl::StrCat("bad option ", Escape(key)),
                        device->has_virtio_blk()
                            ? "options: id=ID, slot=00:04.0, boot_index=N, "
                              "queues=N, queue_threads=N, rings=any|split"
                        : device->has_nvme()
                            ? "options: id=ID, slot=00:04.0, boot_index=N, "
                              "queue_threads=N, serial=S"
                            : "options: id=ID, slot=00:04.0, boot_index=N");
    }
  }
  return absl::OkStatus();
}

constexpr char kDiskOptions[] =
    "options: file=F, format=auto|raw|qcow2|qcow, readonly=on|off, backing=F, "
    "serial=S, block_size=512|4096, key_file=F, nbd=URI, "
    "engine=workers|io_uring, direct=on|off, throw_away=on|off";

bool SetDiskOption(const std::string& key, const std::string& value,
                   const std::string& directory, Disk* disk) {
  uint32_t number = 0;
  Disk::Format format;
  Disk::Engine engine;
  if (key == "file") {
    disk->set_image(MakeAbsolute(directory, value));
  } else if (key == "format" && ParseEnum(value, Disk::Format_Parse, &format)) {
    disk->set_format(format);
  } else if (key == "readonly" && (value == "on" || value == "off")) {
    disk->set_access(value == "on" ? Disk::READ_ONLY : Disk::READ_WRITE);
  } else if (key == "backing") {
    disk->add_backing()->set_image(MakeAbsolute(directory, value));
  } else if (key == "key_file") {
    disk->set_key_file(MakeAbsolute(directory, value));
  } else if (key == "nbd") {
    disk->mutable_nbd()->set_uri(value);
  } else if (key == "engine" && ParseEnum(value, Disk::Engine_Parse, &engine)) {
    disk->set_engine(engine);
  } else if (key == "direct" && (value == "on" || value == "off")) {
    disk->set_direct(value == "on");
  } else if (key == "throw_away" && (value == "on" || value == "off")) {
    disk->set_throw_away(value == "on");
  } else if (key == "serial") {
    disk->set_serial(value);
  } else if (key == "block_size" && absl::SimpleAtoi(value, &number)) {
    disk->set_block_size(number);
  } else {
    return false;
  }
  return true;
}

absl::Status SetDisk(const PartText& part, const std::string& directory,
                     Disk* disk) {
  for (const auto& [key, value] : part.options) {
    if (!SetDiskOption(key, value, directory, disk)) {
      return part.Error(absl::StrCat("bad option ", Escape(key)), kDiskOptions);
    }
  }
  return absl::OkStatus();
}

// The place of a device in the description; -1: there is none of that id.
int FindDevice(const VmSpec& spec, const std::string& id) {
  for (int i = 0; i < spec.devices_size(); ++i) {
    if (spec.devices(i).id() == id) return i;
  }
  return -1;
}

// "lsi0:3.1": device lsi0, target 3, LUN 1. "disk0": the disk of a device that
// has but one, or the next namespace.
absl::Status AddMedium(const PartText& part, bool cdrom,
                       const std::string& directory, Description* description) {
  if (const int one = FindDevice(description->spec(), part.head);
      one >= 0 && !cdrom && description->spec().devices(one).has_virtio_blk()) {
    description->SetByFlag(absl::StrCat("devices[", one, "].virtio_blk.disk"),
                           part.flag);
    return SetDisk(part, directory,
                   description->spec()
                       .mutable_devices(one)
                       ->mutable_virtio_blk()
                       ->mutable_disk());
  }
  if (const int one = FindDevice(description->spec(), part.head);
      one >= 0 && !cdrom && description->spec().devices(one).has_nvme()) {
    Nvme* nvme = description->spec().mutable_devices(one)->mutable_nvme();
    description->SetByFlag(absl::StrCat("devices[", one, "].nvme.namespace[",
                                        nvme->namespace__size(), "]"),
                           part.flag);
    return SetDisk(part, directory, nvme->add_namespace_());
  }
  const size_t colon = part.head.rfind(':');
  const std::string id = part.head.substr(0, colon);
  const std::string address =
      colon == std::string::npos ? "" : part.head.substr(colon + 1);
  const size_t dot = address.find('.');
  uint32_t target = 0;
  uint32_t lun = 0;
  if (!absl::SimpleAtoi(address.substr(0, dot), &target) ||
      (dot != std::string::npos &&
       !absl::SimpleAtoi(address.substr(dot + 1), &lun))) {
    return part.Error("not a device and a target",
                      "begin with DEVICE:TARGET, for example lsi0:0");
  }
  VmSpec& spec = description->spec();
  const int at = FindDevice(spec, id);
  if (at < 0) {
    return part.Error(absl::StrCat("no device has the id ", Escape(id)),
                      absl::StrCat("put --device lsi53c895a,id=", Escape(id),
                                   " in front of it"));
  }
  if (!spec.devices(at).has_lsi53c895a()) {
    return part.Error(absl::StrCat(Escape(id), " has no targets"),
                      absl::StrCat("begin with ", Escape(id), ",file=F"));
  }
  Lsi53c895a* adapter = spec.mutable_devices(at)->mutable_lsi53c895a();
  ScsiTarget* unit = adapter->add_target();
  description->SetByFlag(absl::StrCat("devices[", at, "].lsi53c895a.target[",
                                      adapter->target_size() - 1, "]"),
                         part.flag);
  unit->set_id(target);
  unit->set_lun(lun);
  return SetDisk(part, directory,
                 cdrom ? unit->mutable_cdrom() : unit->mutable_disk());
}

absl::Status ApplyMachine(const Flags& flags, Description* description) {
  Machine* machine = description->spec().mutable_machine();
  Machine::Type type;
  if (flags.machine.has_value()) {
    if (!ParseEnum(*flags.machine, Machine::Type_Parse, &type)) {
      return UsageError("--machine=" + *flags.machine, "unknown machine",
                        "--machine=pc or --machine=q35");
    }
    machine->set_type(type);
  }
  Machine::Accel accel;
  if (flags.accel.has_value()) {
    if (!ParseEnum(*flags.accel, Machine::Accel_Parse, &accel)) {
      return UsageError("--accel=" + *flags.accel, "unknown accelerator",
                        "--accel=auto, --accel=kvm or --accel=tcg");
    }
    machine->set_accel(accel);
  }
  uint32_t cpus = 0;
  if (flags.cpus.has_value()) {
    if (!absl::SimpleAtoi(*flags.cpus, &cpus)) {
      return UsageError("--cpus=" + *flags.cpus, "not a number", "--cpus=2");
    }
    machine->set_vcpus(cpus);
    description->SetByFlag("machine.vcpus", "--cpus=" + *flags.cpus);
  }
  if (flags.memory.has_value()) {
    machine->set_memory(*flags.memory);
    description->SetByFlag("machine.memory", "--memory=" + *flags.memory);
  }
  return absl::OkStatus();
}

void ApplyBoot(const Flags& flags, const std::string& directory,
               Description* description) {
  Boot* boot = description->spec().mutable_boot();
  if (flags.kernel.has_value()) {
    boot->set_kernel(MakeAbsolute(directory, *flags.kernel));
    description->SetByFlag("boot.kernel", "--kernel=" + *flags.kernel);
  }
  if (flags.initrd.has_value()) {
    boot->set_initrd(MakeAbsolute(directory, *flags.initrd));
    description->SetByFlag("boot.initrd", "--initrd=" + *flags.initrd);
  }
  if (flags.append.has_value()) boot->set_cmdline(*flags.append);
  if (!flags.firmware.has_value()) return;
  Boot::Firmware firmware;
  if (ParseEnum(*flags.firmware, Boot::Firmware_Parse, &firmware)) {
    boot->set_firmware(firmware);
    description->SetByFlag("boot.firmware", "--firmware=" + *flags.firmware);
  } else {
    boot->set_firmware_image(MakeAbsolute(directory, *flags.firmware));
    description->SetByFlag("boot.firmware_image",
                           "--firmware=" + *flags.firmware);
  }
}

}  // namespace

bool Flags::DescribesVm() const {
  return !config.empty() || !parts.empty() || kernel.has_value();
}

absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments) {
  Flags flags;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!absl::StartsWith(argument, "--") || argument == "--") {
      return UsageError(argument, "not a flag",
                        "vm takes flags only; --help lists them");
    }
    const size_t equals = argument.find('=');
    std::string name = argument.substr(2, equals - 2);
    for (char& c : name) c = c == '-' ? '_' : c;
    const FlagRow* row = nullptr;
    std::vector<std::string> names;
    for (const FlagRow& candidate : Rows()) {
      if (candidate.name == name) row = &candidate;
      names.push_back(candidate.name);
    }
    if (row == nullptr) {
      const std::string nearest = Nearest(name, names);
      return UsageError(argument, "unknown flag",
                        nearest.empty() ? "--help lists the flags"
                                        : absl::StrCat("--", nearest, "?"));
    }
    std::string value;
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (row->value != nullptr) {
      if (++i == arguments.size()) {
        return UsageError(argument, "its value is missing",
                          absl::StrCat("--", name, "=", row->value));
      }
      value = arguments[i];
    }
    if (!row->apply(&flags, value)) {
      return UsageError(argument, "bad value",
                        absl::StrCat("--", name, row->value ? "=" : "",
                                     row->value ? row->value : ""));
    }
  }
  if (flags.no_qemu && flags.runtime_dir.empty()) {
    return UsageError("--no_qemu", "it needs a place for its sockets",
                      "--runtime_dir=DIR");
  }
  if (flags.no_qemu && flags.check) {
    return UsageError("--check", "it starts a QEMU of its own",
                      "leave out --no_qemu");
  }
  return flags;
}

absl::Status ApplyFlags(const Flags& flags, const std::string& directory,
                        Description* description) {
  if (flags.name.has_value()) {
    description->spec().set_name(*flags.name);
    description->SetByFlag("name", "--name=" + *flags.name);
  }
  if (flags.frontend.has_value()) {
    Frontend frontend;
    if (*flags.frontend == "auto") {
      frontend = FRONTEND_AUTO;
    } else if (!ParseEnum(*flags.frontend, Frontend_Parse, &frontend)) {
      return UsageError(
          "--frontend=" + *flags.frontend, "unknown front end",
          "--frontend=auto, --frontend=vfio_user or --frontend=x_pci_proxy");
    }
    description->spec().set_frontend(frontend);
  }
  if (auto status = ApplyMachine(flags, description); !status.ok()) {
    return status;
  }
  ApplyBoot(flags, directory, description);
  for (const PartFlag& flag : flags.parts) {
    absl::Status status;
    if (flag.kind == PartFlag::Kind::kDevice) {
      status = AddDevice(SplitPart("--device", flag.value), description);
    } else {
      const bool cdrom = flag.kind == PartFlag::Kind::kCdrom;
      status = AddMedium(SplitPart(cdrom ? "--cdrom" : "--disk", flag.value),
                         cdrom, directory, description);
    }
    if (!status.ok()) return status;
  }
  for (const std::string& assignment : flags.set) {
    if (auto status = description->Set(assignment); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

std::string HelpText() {
  std::string text =
      "vm: a virtual machine whose devices are jailed processes\n\n"
      "  vm                                   the demo VM\n"
      "  vm --config=FILE.textproto           the VM that FILE describes\n"
      "  vm --device lsi53c895a,id=lsi0 --disk lsi0:0,file=x.qcow2 ...\n\n";
  for (const FlagRow& row : Rows()) {
    absl::StrAppend(&text, "  --", row.name, row.value ? "=" : "",
                    row.value ? row.value : "", "\n");
    if (row.help[0] != '\0') absl::StrAppend(&text, "      ", row.help, "\n");
  }
  return text;
}

}  // namespace bulkhead::vm

#include "vm/flags.h"

#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::vm {
namespace {

using OptionalText = std::optional<std::string> Flags::*;

struct FlagRow {
  const char* name;
  const char* value;  // how help shows the value; null: a switch
  const char* help;
  std::function<bool(Flags*, const std::string&)> apply;
  std::optional<PartFlag::Kind> options = std::nullopt;  // told by help
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
      {"device", "MODEL,id=ID[,OPTION=VALUE]...",
       "a device: lsi53c895a, nvme, virtio_blk", Part(PartFlag::Kind::kDevice),
       PartFlag::Kind::kDevice},
      {"disk", "ID[:TARGET[.LUN]],file=F[,OPTION=VALUE]...",
       "a disk on it (a comma in a value is written twice)",
       Part(PartFlag::Kind::kDisk), PartFlag::Kind::kDisk},
      {"cdrom", "ID:TARGET[.LUN],file=F[,OPTION=VALUE]...",
       "a CD-ROM on it; options as of --disk", Part(PartFlag::Kind::kCdrom)},
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
    absl::Status status = ApplyPart(flag, directory, description);
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
    if (row.options) {
      absl::StrAppend(&text, "      options: ", OptionsText(*row.options),
                      "\n");
    }
  }
  return text;
}

}  // namespace bulkhead::vm

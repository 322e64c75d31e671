#include "vm/flag_parts.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace bulkhead::vm {
namespace {

// ---- one flag, taken apart

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

bool ParseSwitch(const std::string& value, bool* on) {
  *on = value == "on";
  return value == "on" || value == "off";
}

// ---- devices

struct DeviceOption {
  const char* name;
  const char* value;
  // False: a bad value, or not for this model.
  bool (*set)(const std::string& value, VmDevice* device);
  const char* models = nullptr;  // nullptr: all
};

constexpr DeviceOption kDeviceOptions[] = {
    {"id", "ID",
     [](const std::string& value, VmDevice* device) {
       device->set_id(value);
       return true;
     }},
    {"slot", "00:04.0",
     [](const std::string& value, VmDevice* device) {
       device->set_slot(value);
       return true;
     }},
    {"boot_index", "N",
     [](const std::string& value, VmDevice* device) {
       uint32_t index = 0;
       if (!absl::SimpleAtoi(value, &index)) return false;
       device->set_boot_index(index);
       return true;
     }},
    {"queues", "N",
     [](const std::string& value, VmDevice* device) {
       uint32_t count = 0;
       if (!device->has_virtio_blk() || !absl::SimpleAtoi(value, &count)) {
         return false;
       }
       device->mutable_virtio_blk()->set_queues(count);
       return true;
     },
     "virtio_blk"},
    {"queue_threads", "N",
     [](const std::string& value, VmDevice* device) {
       uint32_t count = 0;
       if (!absl::SimpleAtoi(value, &count)) return false;
       if (device->has_virtio_blk()) {
         device->mutable_virtio_blk()->set_queue_threads(count);
       } else if (device->has_nvme()) {
         device->mutable_nvme()->set_queue_threads(count);
       } else {
         return false;
       }
       return true;
     },
     "virtio_blk and nvme"},
    {"rings", "any|split",
     [](const std::string& value, VmDevice* device) {
       VirtioBlk::Rings rings;
       if (!device->has_virtio_blk() ||
           !ParseEnum(value, VirtioBlk::Rings_Parse, &rings)) {
         return false;
       }
       device->mutable_virtio_blk()->set_rings(rings);
       return true;
     },
     "virtio_blk"},
    {"serial", "S",
     [](const std::string& value, VmDevice* device) {
       if (!device->has_nvme()) return false;
       device->mutable_nvme()->set_serial(value);
       return true;
     },
     "nvme"},
};

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
    bool set = false;
    for (const DeviceOption& option : kDeviceOptions) {
      if (key == option.name) set = option.set(value, device);
    }
    if (!set) {
      return part.Error(
          absl::StrCat("bad option ", Escape(key)),
          absl::StrCat("options: ", OptionsText(PartFlag::Kind::kDevice)));
    }
  }
  return absl::OkStatus();
}

// ---- disks and CD-ROMs

struct DiskOption {
  const char* name;
  const char* value;
  bool (*set)(const std::string& value, const std::string& directory,
              Disk* disk);
};

constexpr DiskOption kDiskOptions[] = {
    {"file", "F",
     [](const std::string& value, const std::string& directory, Disk* disk) {
       disk->set_image(MakeAbsolute(directory, value));
       return true;
     }},
    {"nbd", "URI",
     [](const std::string& value, const std::string&, Disk* disk) {
       disk->mutable_nbd()->set_uri(value);
       return true;
     }},
    {"format", "auto|raw|qcow2|qcow",
     [](const std::string& value, const std::string&, Disk* disk) {
       Disk::Format format;
       if (!ParseEnum(value, Disk::Format_Parse, &format)) return false;
       disk->set_format(format);
       return true;
     }},
    {"readonly", "on|off",
     [](const std::string& value, const std::string&, Disk* disk) {
       bool on;
       if (!ParseSwitch(value, &on)) return false;
       disk->set_access(on ? Disk::READ_ONLY : Disk::READ_WRITE);
       return true;
     }},
    {"backing", "F",
     [](const std::string& value, const std::string& directory, Disk* disk) {
       disk->add_backing()->set_image(MakeAbsolute(directory, value));
       return true;
     }},
    {"serial", "S",
     [](const std::string& value, const std::string&, Disk* disk) {
       disk->set_serial(value);
       return true;
     }},
    {"block_size", "512|4096",
     [](const std::string& value, const std::string&, Disk* disk) {
       uint32_t bytes = 0;
       if (!absl::SimpleAtoi(value, &bytes)) return false;
       disk->set_block_size(bytes);
       return true;
     }},
    {"key_file", "F",
     [](const std::string& value, const std::string& directory, Disk* disk) {
       disk->set_key_file(MakeAbsolute(directory, value));
       return true;
     }},
    {"engine", "workers|io_uring",
     [](const std::string& value, const std::string&, Disk* disk) {
       Disk::Engine engine;
       if (!ParseEnum(value, Disk::Engine_Parse, &engine)) return false;
       disk->set_engine(engine);
       return true;
     }},
    {"direct", "on|off",
     [](const std::string& value, const std::string&, Disk* disk) {
       bool on;
       if (!ParseSwitch(value, &on)) return false;
       disk->set_direct(on);
       return true;
     }},
    {"throw_away", "on|off",
     [](const std::string& value, const std::string&, Disk* disk) {
       bool on;
       if (!ParseSwitch(value, &on)) return false;
       disk->set_throw_away(on);
       return true;
     }},
};

absl::Status SetDisk(const PartText& part, const std::string& directory,
                     Disk* disk) {
  for (const auto& [key, value] : part.options) {
    bool set = false;
    for (const DiskOption& option : kDiskOptions) {
      if (key == option.name) set = option.set(value, directory, disk);
    }
    if (!set) {
      return part.Error(
          absl::StrCat("bad option ", Escape(key)),
          absl::StrCat("options: ", OptionsText(PartFlag::Kind::kDisk)));
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

}  // namespace

absl::Status ApplyPart(const PartFlag& flag, const std::string& directory,
                       Description* description) {
  if (flag.kind == PartFlag::Kind::kDevice) {
    return AddDevice(SplitPart("--device", flag.value), description);
  }
  const bool cdrom = flag.kind == PartFlag::Kind::kCdrom;
  return AddMedium(SplitPart(cdrom ? "--cdrom" : "--disk", flag.value), cdrom,
                   directory, description);
}

std::string OptionsText(PartFlag::Kind kind) {
  std::vector<std::string> texts;
  if (kind == PartFlag::Kind::kDevice) {
    for (const DeviceOption& option : kDeviceOptions) {
      texts.push_back(absl::StrCat(option.name, "=", option.value));
      if (option.models != nullptr) {
        absl::StrAppend(&texts.back(), " (", option.models, ")");
      }
    }
  } else {
    for (const DiskOption& option : kDiskOptions) {
      texts.push_back(absl::StrCat(option.name, "=", option.value));
    }
  }
  return absl::StrJoin(texts, ", ");
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

std::string MakeAbsolute(const std::string& directory,
                         const std::string& path) {
  if (path.empty() || path[0] == '/' || directory.empty()) return path;
  return absl::StrCat(directory, "/", path);
}

}  // namespace bulkhead::vm

#include "vm/qemu_args.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"
#include "vm/check.h"

namespace bulkhead::vm {
namespace {

// QEMU gives up on a device that is silent for so long, for good: a shim must
// never be late, and a host that swaps or is suspended must not look so.
constexpr int kMessageTimeoutMs = 120000;

// A value inside QEMU's comma-separated options.
std::string Option(const std::string& text) {
  return absl::StrReplaceAll(text, {{",", ",,"}});
}

std::string VfioUserDevice(const VmDevice& device, const std::string& socket) {
  nlohmann::ordered_json json = {
      {"driver", "vfio-user-pci"},
      {"id", device.id()},
      {"addr", absl::StrCat(absl::Hex(SlotNumber(device)))},
      {"socket", {{"type", "unix"}, {"path", socket}}},
      {"x-msg-timeout", kMessageTimeoutMs},
  };
  if (device.boot_index() > 0) json["bootindex"] = device.boot_index() - 1;
  return json.dump();
}

std::string ProxyDevice(const VmDevice& device, int fd) {
  return absl::StrCat("x-pci-proxy-dev,id=", device.id(), ",fd=", fd,
                      ",addr=", absl::Hex(SlotNumber(device)));
}

void AddJailed(const QemuWiring& wiring, std::vector<std::string>* out) {
  out->insert(
      out->end(),
      {"-chardev", absl::StrCat("socket,id=console,fd=", wiring.console_fd),
       "-serial", "chardev:console", "-chardev",
       absl::StrCat("socket,id=monitor,fd=", wiring.monitor_fd),
       wiring.monitor_object ? "-object" : "-mon",
       wiring.monitor_object ? "monitor-qmp,id=qmp,chardev=monitor"
                             : "chardev=monitor,mode=control",
       "-sandbox",
       "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
       "resourcecontrol=deny"});
}

std::string XmlQuoted(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"},
                                    {"<", "&lt;"},
                                    {">", "&gt;"},
                                    {"'", "&apos;"},
                                    {"\"", "&quot;"}});
}

}  // namespace

std::vector<std::string> QemuArguments(const VmSpec& spec,
                                       const QemuWiring& wiring) {
  const uint64_t ram = RamBytes(spec);
  const bool q35 = spec.machine().type() == Machine::Q35;
  std::vector<std::string> out = {
      "-nodefaults", "-no-user-config", "-display", "none", "-name",
      spec.name(), "-machine",
      // graphics=off: the firmware talks to the serial port.
      absl::StrCat(q35 ? "q35" : "pc",
                   ",memory-backend=ram,graphics=off,usb=off,vmport=off"),
      "-m", absl::StrCat(ram >> 20, "M"), "-object",
      absl::StrCat("memory-backend-file,id=ram,mem-path=", Option(wiring.ram),
                   ",share=on,size=", ram),
      "-smp", absl::StrCat(spec.machine().vcpus())};
  if (!wiring.use_kvm) {
    // max: with RDRAND, a guest need not wait for random numbers.
    out.insert(out.end(), {"-accel", "tcg", "-cpu", "max"});
  } else if (wiring.kvm_fd > 0) {
    out.insert(out.end(),
               {"-add-fd", absl::StrCat("fd=", wiring.kvm_fd, ",set=1"),
                "-accel", "kvm,device=/dev/fdset/1", "-cpu", wiring.kvm_cpu});
  } else {
    out.insert(out.end(), {"-accel", "kvm", "-cpu", wiring.kvm_cpu});
  }
  if (!wiring.firmware.empty()) {
    out.insert(out.end(), {"-bios", wiring.firmware});
  }
  if (!wiring.kernel.empty()) {
    out.insert(out.end(), {"-kernel", wiring.kernel});
    if (!wiring.initrd.empty()) {
      out.insert(out.end(), {"-initrd", wiring.initrd});
    }
    if (!spec.boot().cmdline().empty()) {
      out.insert(out.end(), {"-append", spec.boot().cmdline()});
    }
  }
  if (wiring.jailed) AddJailed(wiring, &out);
  for (int i = 0; i < spec.devices_size(); ++i) {
    out.insert(out.end(),
               {"-device",
                wiring.frontend == X_PCI_PROXY
                    ? ProxyDevice(spec.devices(i), wiring.first_proxy_fd + i)
                    : VfioUserDevice(spec.devices(i), wiring.sockets[i])});
  }
  return out;
}

std::vector<std::string> QemuRemoteArguments(const VmDevice& device,
                                             int socket_fd,
                                             int first_image_fd) {
  const QemuRemote& remote = device.qemu_remote();
  std::vector<std::string> out = {"-machine",        "x-remote", "-nodefaults",
                                  "-no-user-config", "-display", "none"};
  for (int i = 0; i < remote.image_size(); ++i) {
    // QEMU looks for one that was opened as it wants to open it.
    for (int reader = 0; reader < 2; ++reader) {
      if (reader == 0 && remote.image(i).access() == Disk::READ_ONLY) continue;
      out.insert(
          out.end(),
          {"-add-fd", absl::StrCat("fd=", first_image_fd + 2 * i + reader,
                                   ",set=", i + 1)});
    }
  }
  for (std::string argument : remote.args()) {
    for (int i = 0; i < remote.image_size(); ++i) {
      const std::string set = absl::StrCat("=/dev/fdset/", i + 1);
      // The launcher holds the locks.
      argument = absl::StrReplaceAll(
          argument, {{absl::StrCat("filename={", remote.image(i).name(), "}"),
                      absl::StrCat("filename", set, ",locking=off")},
                     {absl::StrCat("file={", remote.image(i).name(), "}"),
                      absl::StrCat("file", set, ",file.locking=off")}});
    }
    out.push_back(argument);
  }
  out.insert(out.end(),
             {"-object", absl::StrCat("x-remote-object,id=x-remote,devid=",
                                      remote.devid().empty() ? device.id()
                                                             : remote.devid(),
                                      ",fd=", socket_fd)});
  return out;
}

std::string ShellQuoted(const std::string& text) {
  bool plain = !text.empty();
  for (const char c : text) {
    plain &= absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
             absl::StrContains("-_=,./:+@", std::string(1, c));
  }
  if (plain) return text;
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string PrintArguments(const std::vector<std::string>& arguments,
                           const std::string& format) {
  if (format == "json") {
    return nlohmann::json(arguments).dump() + "\n";
  }
  std::string text;
  if (format == "libvirt") {
    for (const std::string& argument : arguments) {
      absl::StrAppend(&text, "  <qemu:arg value='", XmlQuoted(argument),
                      "'/>\n");
    }
    return absl::StrCat(
        "<!-- domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' "
        "-->\n<qemu:commandline>\n",
        text, "</qemu:commandline>\n");
  }
  for (const std::string& argument : arguments) {
    const bool option = absl::StartsWith(argument, "-");
    absl::StrAppend(&text,
                    text.empty() ? ""
                    : option     ? " \\\n  "
                                 : " ",
                    ShellQuoted(argument));
  }
  return text + "\n";
}

}  // namespace bulkhead::vm

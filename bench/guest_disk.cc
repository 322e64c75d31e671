// How fast is a disk in a real Linux guest: behind our jailed device, or behind
// the one inside QEMU?
//
//   bazel run -c opt //bench:guest_disk --
//       [--device=lsi53c895a|nvme|virtio_blk] [--rounds=3] [--seconds=3]
//       [--dir=D] [--fio] [--json=FILE]
//
// Boots the test guest in turn with each, the same machine, kernel, initrd and
// qcow2 image (on --dir, /dev/shm by default), and runs tests/guest/scripts/
// bench.sh in it: O_DIRECT, 4 KiB random at depth 1 and 16 (SCSI) or 32 (the
// others), 1 MiB sequential. The load is fio; for SCSI it is the demo guest's
// own iobench, or fio with --fio.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "bench/report.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::bench {
namespace {

using testing::Process;
using testing::RuntimePath;
using testing::Seconds;

// Without fio, and with it.
constexpr char kDemoInitrd[] = "tools/guest/initrd.cpio";
constexpr char kFioInitrd[] = "tools/guest/judges_initrd.cpio";
constexpr char kOurs[] = "bulkhead";
constexpr char kPeer[] = "qemu in-process";

// A device of ours and its like in QEMU.
struct Contest {
  const char* name;
  const char* disk;               // in the guest
  const char* our_device;         // --device
  const char* our_disk;           // --disk, without the file
  std::vector<const char*> peer;  // QEMU's -device, each
  int depth;                      // of the deep runs
  double depth_1_aim;
  const char* initrd;
};

const std::vector<Contest>& Contests() {
  static const auto& contests = *new std::vector<Contest>{
      {"lsi53c895a",
       "sda",
       "lsi53c895a,id=dev0",
       "dev0:0",
       {"lsi53c895a,id=lsi0", "scsi-hd,bus=lsi0.0,scsi-id=0,drive=disk"},
       16,
       0.9,
       kDemoInitrd},
      {"nvme",
       "nvme0n1",
       "nvme,id=dev0",
       "dev0",
       {"nvme,serial=peer,drive=disk"},
       32,
       1.0,
       kFioInitrd},
      {"virtio_blk",
       "vda",
       "virtio_blk,id=dev0",
       "dev0",
       {"virtio-blk-pci,drive=disk"},
       32,
       1.0,
       kFioInitrd},
  };
  return contests;
}

struct Options {
  Contest contest = Contests()[0];
  int rounds = 3;
  int seconds = 3;
  std::string directory = "/dev/shm";
  std::string json = "guest_disk.json";
};

bool ReadOption(const char* argument, const char* name, std::string* value) {
  const size_t size = strlen(name);
  if (strncmp(argument, name, size) != 0 || argument[size] != '=') return false;
  *value = argument + size + 1;
  return true;
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  bool by_fio = false;
  for (int i = 1; i < argc; ++i) {
    std::string value;
    if (ReadOption(argv[i], "--device", &value)) {
      bool known = false;
      for (const Contest& contest : Contests()) {
        if (value != contest.name) continue;
        options.contest = contest;
        known = true;
      }
      if (!known) {
        fprintf(stderr, "unknown device %s\n", value.c_str());
        exit(2);
      }
    } else if (ReadOption(argv[i], "--rounds", &value)) {
      options.rounds = atoi(value.c_str());
    } else if (ReadOption(argv[i], "--seconds", &value)) {
      options.seconds = atoi(value.c_str());
    } else if (ReadOption(argv[i], "--dir", &options.directory)) {
    } else if (ReadOption(argv[i], "--json", &options.json)) {
    } else if (strcmp(argv[i], "--fio") == 0) {
      by_fio = true;
    } else {
      fprintf(stderr,
              "unknown argument %s; known: --device=D --rounds=N --seconds=N "
              "--dir=D --fio --json=FILE\n",
              argv[i]);
      exit(2);
    }
  }
  if (by_fio) options.contest.initrd = kFioInitrd;
  return options;
}

std::string MakeImage(const std::string& directory) {
  const std::string image = directory + "/disk.qcow2";
  const std::string command =
      "rm -f " + image + " && qemu-img create -q -f qcow2 " + image + " 256M";
  if (system(command.c_str()) != 0) {
    fprintf(stderr, "cannot run: %s\n", command.c_str());
    exit(1);
  }
  return image;
}

std::string KernelArguments(const Options& options) {
  return "console=ttyS0 quiet bulkhead.script=bench bulkhead.seconds=" +
         std::to_string(options.seconds) +
         " bulkhead.depth=" + std::to_string(options.contest.depth) +
         " bulkhead.disk=" + options.contest.disk;
}

std::vector<std::string> OurCommand(const Options& options,
                                    const std::string& image) {
  return {"launcher/vm",
          "--accel=tcg",
          "--memory=512MiB",
          "--kernel=" + RuntimePath("guest_kernel"),
          std::string("--initrd=") +
              std::filesystem::absolute(options.contest.initrd).string(),
          "--append=" + KernelArguments(options),
          std::string("--device=") + options.contest.our_device,
          std::string("--disk=") + options.contest.our_disk + ",file=" + image +
              ",format=qcow2"};
}

std::vector<std::string> PeerCommand(const Options& options,
                                     const std::string& image,
                                     const std::string& directory) {
  const auto copy = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(RuntimePath("guest_kernel"),
                             directory + "/vmlinuz", copy);
  std::filesystem::copy_file(options.contest.initrd, directory + "/initrd",
                             copy);
  std::vector<std::string> arguments = {
      "-nodefaults", "-no-user-config",
      "-display",    "none",
      "-serial",     "stdio",
      "-machine",    "pc,memory-backend=ram,graphics=off,usb=off,vmport=off",
      "-accel",      "tcg",
      "-m",          "512M",
      "-object",     "memory-backend-memfd,id=ram,share=on,size=512M",
      "-kernel",     directory + "/vmlinuz",
      "-initrd",     directory + "/initrd",
      "-append",     KernelArguments(options),
      "-drive",      "if=none,id=disk,format=qcow2,file=" + image};
  for (const char* device : options.contest.peer) {
    arguments.insert(arguments.end(), {"-device", device});
  }
  return testing::QemuCommand(arguments, {directory});
}

// "iops=411" of one BULKHEAD-BENCH line.
std::map<std::string, std::string> Fields(const std::string& line) {
  std::map<std::string, std::string> fields;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    if (equals != std::string::npos) {
      fields[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  return fields;
}

// Runs one boot and adds what it printed. False when it did not get through.
bool Measure(const std::vector<std::string>& command, const Options& options,
             const std::string& contestant, Comparison* comparison) {
  Process vm(command);
  const int status = vm.Wait(Seconds(120 + 8 * options.seconds));
  std::istringstream lines(vm.output());
  int runs = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("BULKHEAD-BENCH") == std::string::npos) continue;
    ++runs;
    auto fields = Fields(line);
    const bool large = fields["bs"] == "1048576";
    const std::string what = (large ? "1 MiB " : "4 KiB ") + fields["rw"] +
                             (large ? "" : " depth " + fields["depth"]);
    // Depth 1 is the cost of one round; deeper, and in sequence, we must lead.
    const double aim =
        !large && fields["depth"] == "1" ? options.contest.depth_1_aim : 1.0;
    comparison->Figure(what, large ? "MiB/s" : "IOPS", true, {aim});
    comparison->Add(what, contestant,
                    atof(fields[large ? "mib_s" : "iops"].c_str()));
  }
  if (status == 0 && runs == 6) return true;
  fprintf(stderr, "%s: status %d after %d runs:\n%s\n", contestant.c_str(),
          status, runs, vm.output().c_str());
  return false;
}

int Run(const Options& options) {
  if (RuntimePath("guest_kernel").empty()) {
    fprintf(stderr, "no guest kernel yet; run ./bazelw once\n");
    return 1;
  }
  const std::string directory =
      options.directory + "/bulkhead-guest-disk-" + std::to_string(getpid());
  std::filesystem::create_directory(directory);
  Comparison comparison(std::string("A qcow2 disk in a Linux guest (TCG, 1 "
                                    "vCPU), ") +
                            options.contest.name,
                        {kOurs, kPeer});
  bool good = true;
  for (int round = 0; good && round < options.rounds; ++round) {
    fprintf(stderr, "round %d of %d\n", round + 1, options.rounds);
    const std::string image = MakeImage(directory);
    good = Measure(OurCommand(options, image), options, kOurs, &comparison);
    MakeImage(directory);
    good = good && Measure(PeerCommand(options, image, directory), options,
                           kPeer, &comparison);
  }
  std::filesystem::remove_all(directory);
  comparison.Print();
  comparison.WriteJson(options.json);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  return bulkhead::bench::Run(bulkhead::bench::ParseOptions(argc, argv));
}

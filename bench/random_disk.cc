#include "bench/random_disk.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace bulkhead::bench {
namespace {

void Shell(const std::string& command) {
  if (system(command.c_str()) == 0) return;
  fprintf(stderr, "failed: %s\n", command.c_str());
  exit(1);
}

}  // namespace

RandomDisk::RandomDisk(const std::string& parent, bool qcow2)
    : directory_(absl::StrCat(parent, "/bulkhead-bench-", getpid())) {
  std::filesystem::create_directories(directory_);
  const std::string raw = path() + ".raw";
  Shell("head -c 512M /dev/urandom > " + raw);
  if (qcow2) {
    Shell("qemu-img convert -f raw -O qcow2 " + raw + " " + path() + " && rm " +
          raw);
  } else {
    std::filesystem::rename(raw, path());
  }
}

RandomDisk::~RandomDisk() { std::filesystem::remove_all(directory_); }

}  // namespace bulkhead::bench

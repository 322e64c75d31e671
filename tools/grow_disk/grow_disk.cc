// bazel run //tools/grow_disk -- VM DEVICE[:DISK] SIZE
//
// Makes a disk of a running VM longer; its guest is told. VM is a name or the
// launcher's process id; DISK counts the device's disks in the order of the
// description, from 0. An image file grows by itself; a block device must have
// become longer before. 0: done; 1: refused, with the reason; 2: wrong use.

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "policy/launcher_socket.h"
#include "proto/launch.pb.h"
#include "vm/size.h"

namespace bulkhead {
namespace {

constexpr int kRefused = 1;
constexpr int kUsage = 2;
constexpr char kHelp[] =
    "usage: grow_disk VM DEVICE[:DISK] SIZE\n"
    "  grow_disk web1 disk0 20GiB      the device's only disk\n"
    "  grow_disk web1 lsi0:1 20GiB     the second disk of its description\n";

// What a service waits for is a file system; it may be slow.
constexpr int kSeconds = 60;

int Fail(int code, const std::string& why) {
  std::cerr << "error: " << why << "\n";
  return code;
}

absl::StatusOr<Ack> Ask(int fd, const UserRequest& request) {
  const std::string packet = request.SerializeAsString();
  if (send(fd, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
    return absl::UnavailableError(strerror(errno));
  }
  std::array<char, 4096> answer;
  const ssize_t size = recv(fd, answer.data(), answer.size(), 0);
  Frame frame;
  if (size < 0 && errno == EAGAIN) {
    return absl::UnavailableError(absl::StrCat(
        "the device has not answered for ", kSeconds, " s; look at its log"));
  }
  if (size <= 0 ||
      !frame.ParseFromArray(answer.data(), static_cast<int>(size))) {
    return absl::UnavailableError(
        "its launcher answers only root and its own user");
  }
  return frame.ack();
}

// What a device says may hold anything.
std::string Escaped(std::string text) {
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

int Main(const std::vector<std::string>& words) {
  UserRequest request;
  uint64_t size = 0;
  if (words.size() != 3 || !vm::ParseSize(words[2], &size)) {
    std::cerr << kHelp;
    return kUsage;
  }
  const std::vector<std::string> disk = absl::StrSplit(words[1], ':');
  uint32_t index = 0;
  if (disk.size() > 2 ||
      (disk.size() == 2 && !absl::SimpleAtoi(disk[1], &index))) {
    std::cerr << kHelp;
    return kUsage;
  }
  request.mutable_disk()->set_process(disk[0]);
  GrowDisk* grow = request.mutable_disk()->mutable_grow_disk();
  grow->set_backend(index);
  grow->set_size_bytes(size);

  std::vector<policy::LauncherSocket> found;
  for (const policy::LauncherSocket& one : policy::LauncherSockets()) {
    if (one.vm == words[0] || absl::StrCat(one.launcher) == words[0]) {
      found.push_back(one);
    }
  }
  if (found.empty()) {
    return Fail(kRefused, absl::StrCat("no VM \"", words[0], "\" runs here"));
  }
  if (found.size() > 1) {
    std::string pids;
    for (const auto& one : found) absl::StrAppend(&pids, " ", one.launcher);
    return Fail(kUsage, absl::StrCat("more than one VM is called \"", words[0],
                                     "\"; say one of", pids));
  }
  const absl::StatusOr<int> fd = policy::Connect(found[0], kSeconds);
  if (!fd.ok()) return Fail(kRefused, std::string(fd.status().message()));
  absl::Cleanup close_fd = [&fd] { close(*fd); };
  const absl::StatusOr<Ack> ack = Ask(*fd, request);
  if (!ack.ok()) return Fail(kRefused, std::string(ack.status().message()));
  if (ack->error() == UNKNOWN_REQUEST) {
    return Fail(kRefused, absl::StrCat("the VM has no such device as ", disk[0],
                                       ", or it has ended"));
  }
  if (ack->error() != OK) {
    return Fail(kRefused,
                absl::StrCat(words[1], ": ", Escaped(ack->message())));
  }
  std::cout << words[1] << " has " << vm::FormatSize(size) << " now\n";
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::Main(std::vector<std::string>(argv + 1, argv + argc));
}

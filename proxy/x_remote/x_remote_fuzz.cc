// A remote process's bytes, at any moment, against what a guest does with its
// device.
//
// Input: steps of {u8 what, u8 length or argument, bytes}.

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "proxy/x_remote/x_remote_device.h"

namespace bulkhead::proxy {
namespace {

int RamFd() {
  static const int fd = memfd_create("ram", MFD_CLOEXEC);
  return fd;
}

void Step(XRemoteDevice& device, uint8_t what, uint8_t argument) {
  std::array<uint8_t, 8> data = {argument};
  const uint32_t region = argument % 8;
  switch (what) {
    case 1:
      device.Read(region, argument, {data.data(), 4});
      break;
    case 2:
      device.Write(region, argument, {data.data(), 8});
      break;
    case 3:
      device.Map(uint64_t{argument} << 16, 0x10000, 0, true, true, RamFd());
      break;
    case 4:
      device.Unmap(uint64_t{argument} << 16, 0x8000);
      break;
    case 5:
      device.MaskIntx(argument % 2 == 0);
      break;
    case 6:
      device.Reset();
      break;
    case 7:
      device.Detach();
      break;
    default:
      device.Poll();
  }
}

void FuzzOne(absl::Span<const uint8_t> input) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) abort();
  struct stat status;
  fstat(RamFd(), &status);
  {
    // Deadlines of no time: whoever does not answer at once is slow.
    XRemoteDevice device(ends[1], RamFd(),
                         {status.st_dev, status.st_ino, 1 << 20}, {1, 1});
    bool probed = false;
    while (input.size() >= 2) {
      const uint8_t what = input[0] % 9;
      const uint8_t argument = input[1];
      input.remove_prefix(2);
      if (what == 8) {
        probed = true;
        device.Probe(1).IgnoreError();
      } else if (what == 0) {
        const size_t length = std::min<size_t>(argument, input.size());
        send(ends[0], input.data(), length, MSG_NOSIGNAL | MSG_DONTWAIT);
        input.remove_prefix(length);
        device.Poll();
      } else {
        Step(device, what, argument);
      }
      if (device.lost() != (device.fd() < 0)) abort();
    }
    if (probed) device.Poll();
  }
  close(ends[0]);
}

}  // namespace
}  // namespace bulkhead::proxy

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::proxy::FuzzOne({data, size});
  return 0;
}

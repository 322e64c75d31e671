// A hostile shim and a hostile launcher against a whole server: the input is a
// list of frames, given in the order it names. Whatever comes, the loop ends,
// and nothing but RAM and the device's registers has changed.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/runtime/server.h"
#include "services/runtime/testing/toy_device.h"

namespace bulkhead {
namespace {

constexpr size_t kMaxFrames = 48;

// Takes bytes off the front of the input.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  // Numbers near what matters: a byte says how many bytes follow.
  uint64_t Number() {
    const uint8_t kind = Byte();
    uint64_t value = 0;
    for (int i = 0; i < (kind & 7) + 1; ++i) value = value << 8 | Byte();
    return (kind & 0x80) != 0 ? ~value : value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

void FillShimFrame(Input& input, Frame& frame) {
  switch (input.Byte() % 10) {
    case 0: {
      MemoryMap* map = frame.mutable_memory_map();
      map->set_address(input.Number());
      map->set_size_bytes(input.Number());
      map->set_ram_offset(input.Number());
      map->set_readable(true);
      map->set_writable((input.Byte() & 1) != 0);
      break;
    }
    case 1:
      frame.mutable_memory_unmap()->set_address(input.Number());
      frame.mutable_memory_unmap()->set_size_bytes(input.Number());
      break;
    case 2: {
      SetInterrupts* set = frame.mutable_set_interrupts();
      set->set_kind(static_cast<InterruptKind>(input.Byte() % 5));
      set->set_first(static_cast<uint32_t>(input.Number()));
      set->set_count(input.Byte() % 80);
      for (uint32_t i = 0; i < set->count(); ++i) set->add_present(false);
      break;
    }
    case 3:
      frame.mutable_reset();
      break;
    case 4:
    case 5: {
      RegionRead* read = frame.mutable_region_read();
      read->set_region(static_cast<uint32_t>(input.Number()));
      read->set_offset(input.Number());
      read->set_size_bytes(static_cast<uint32_t>(input.Number()));
      break;
    }
    case 6:
      frame.mutable_quiesce();
      break;
    case 7:
      break;  // no body
    default: {
      RegionWrite* write = frame.mutable_region_write();
      write->set_region(input.Byte() % 5);
      write->set_offset(input.Byte());
      write->set_size_bytes(1u << (input.Byte() % 5));
      write->set_value(input.Number());
      // Those end or delay the process on purpose.
      if (write->offset() == ToyDevice::kFail ||
          write->offset() == ToyDevice::kWork) {
        write->set_offset(ToyDevice::kCopyTo);
      }
    }
  }
}

void FillControlFrame(Input& input, Frame& frame, bool* wants_fd) {
  *wants_fd = false;
  switch (input.Byte() % 5) {
    case 0:
      frame.mutable_quiesce();
      break;
    case 1:
      frame.mutable_resume();
      break;
    case 2:
      frame.mutable_save_state();
      *wants_fd = true;
      break;
    case 3:
      frame.mutable_load_state();
      *wants_fd = true;
      break;
    default:
      frame.mutable_get_statistics();
  }
}

struct Pair {
  Pair() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      abort();
    }
    ours = std::make_unique<Channel>(ends[0]);
    theirs = std::make_unique<Channel>(ends[1]);
  }
  std::unique_ptr<Channel> ours;
  std::unique_ptr<Channel> theirs;
};

// One memory for all runs; what is mapped is reset each time.
int RamFd() {
  static const int fd = [] {
    const int memfd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ftruncate(memfd, 1 << 20) != 0) abort();
    fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK);
    return memfd;
  }();
  return fd;
}

void RunOne(Input input) {
  static const int log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  Pair shim;
  Pair control;
  auto memory = GuestMemory::Create(RamFd(), 1 << 20);
  if (!memory.ok()) abort();
  auto context =
      LiveContext::Create(*std::move(memory), *control.theirs, log_fd);
  if (!context.ok()) abort();
  ToyDevice device(**context);
  DeviceDescription description;
  device.Describe(&description);
  if (!(*context)->Adopt(description).ok()) abort();
  Server server(**context, device, *shim.theirs, *control.theirs, {"toy", 0});

  shim.ours->outgoing().mutable_hello()->set_version(kProtocolVersion);
  if (!shim.ours->Send().ok()) abort();
  const int state = memfd_create("state", MFD_CLOEXEC);
  for (size_t i = 0; i < kMaxFrames && !input.empty(); ++i) {
    if (input.Byte() % 8 != 0) {
      FillShimFrame(input, shim.ours->outgoing());
      shim.ours->Send().IgnoreError();
    } else {
      bool wants_fd;
      FillControlFrame(input, control.ours->outgoing(), &wants_fd);
      control.ours->Send({&state, wants_fd ? 1u : 0u}).IgnoreError();
      if (wants_fd) lseek(state, 0, SEEK_SET);
    }
  }
  close(state);
  control.ours.reset();
  server.Serve().IgnoreError();
}

}  // namespace
}  // namespace bulkhead

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::RunOne(bulkhead::Input(data, size));
  return 0;
}

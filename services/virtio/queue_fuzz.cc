// A ring full of anything: whatever a driver writes, the device takes at most
// as many chains as the ring holds, and every segment lies in guest RAM.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "services/virtio/queue.h"

namespace bulkhead::virtio {
namespace {

constexpr uint64_t kRamBytes = 1 << 16;

void Run(const uint8_t* data, size_t size) {
  static GuestMemory memory = GuestMemory::CreateForTest(kRamBytes);
  auto* ram = reinterpret_cast<uint8_t*>(memory.host_base());
  if (size < 8) return;
  const uint8_t kind = data[0];
  const uint16_t ring = static_cast<uint16_t>(data[1] % 33);
  // The rest lies where the rings are, so that mutations find them.
  std::memset(ram, 0, 0x4000);
  std::memcpy(ram, data + 8, size - 8 < 0x4000 ? size - 8 : 0x4000);

  QueueState state = {};
  Queue queue;
  queue.Attach(&memory, &state);
  queue.Reset(ring);
  state.descriptors = uint64_t{data[2]} * 16;
  state.driver = 0x200 + uint64_t{data[3]} * 2;
  state.device = 0x800 + uint64_t{data[4]} * 4;
  uint64_t features = kFeatureVersion1;
  if (kind & 1) features |= kFeaturePacked;
  if (kind & 2) features |= kFeatureIndirect;
  if (kind & 4) features |= kFeatureEventIndex;
  if (kind & 8) features |= kFeatureInOrder;
  if (!queue.Enable(features)) return;

  static std::vector<iovec> segments(kMaxChainSegments);
  Chain chain;
  chain.segments = segments.data();
  std::vector<Ticket> taken;
  for (int step = 0; step < 200; ++step) {
    if (queue.Pop(&chain) != Popped::kChain) break;
    if (queue.outstanding() > ring) abort();
    for (size_t i = 0; !chain.faulty && i < chain.count; ++i) {
      const auto* at = static_cast<const uint8_t*>(segments[i].iov_base);
      if (at < ram || at + segments[i].iov_len > ram + kRamBytes) abort();
    }
    taken.push_back(chain.ticket);
    if (data[5 + step % 3] & 1) {
      queue.Push(taken.back(), chain.writable_bytes & 0xffff);
      taken.pop_back();
      queue.WantsSignal();
      queue.Signalled();
    }
    if (data[5 + step % 3] & 2) queue.EnableNotifications();
    if (data[5 + step % 3] & 4) queue.DisableNotifications();
  }
  while (!taken.empty()) {
    queue.Push(taken.back(), 1);
    taken.pop_back();
  }
}

}  // namespace
}  // namespace bulkhead::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::virtio::Run(data, size);
  return 0;
}

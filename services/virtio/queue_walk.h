// What Queue's three files share: a chain being read, and atomic accesses to
// rings that a driver works on at the same time.
//
// TRUST    As queue.h says: every value loaded is the driver's.
// ERRORS   None.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_VIRTIO_QUEUE_WALK_H_
#define BULKHEAD_SERVICES_VIRTIO_QUEUE_WALK_H_

#include <cstdint>
#include <cstring>

#include "services/virtio/queue.h"

namespace bulkhead::virtio {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "ring indices are read as the host's integers");

struct Queue::Walk {
  Chain* chain;
  unsigned descriptors = 0;  // buffers so far
  bool writing = false;      // one of them is writable
};

inline uint16_t LoadAcquire(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(at),
                         __ATOMIC_ACQUIRE);
}
inline uint16_t LoadRelaxed(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(at),
                         __ATOMIC_RELAXED);
}
inline uint32_t LoadRelaxed32(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(at),
                         __ATOMIC_RELAXED);
}
inline void StoreRelease(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELEASE);
}
inline void StoreRelaxed(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}

template <typename T>
T CopyOut(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  // The copy is what is checked and used: the compiler may not read again.
  asm volatile("" : "+m"(value));
  return value;
}

// §2.7.10: whether an index has passed the one that the other side waits for.
constexpr bool HasPassed(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) <
         static_cast<uint16_t>(now - before);
}

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_QUEUE_WALK_H_

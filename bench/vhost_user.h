// VhostUser is the front end of a vhost-user-blk daemon, as far as a benchmark
// needs it: features, one memory region, one queue.
//
// TRUST    Benchmarks only: the daemon is believed.
// ERRORS   Ends the program.
// THREADS  One.
// SPEC     QEMU's "Vhost-user Protocol" document.

#ifndef BULKHEAD_BENCH_VHOST_USER_H_
#define BULKHEAD_BENCH_VHOST_USER_H_

#include <cstdint>
#include <string>

#include "services/virtio/testing/driver_queue.h"

namespace bulkhead::bench {

class VhostUser {
 public:
  // Connects, again and again for some seconds.
  explicit VhostUser(const std::string& socket);
  ~VhostUser();

  // Tells the daemon of memory (guest address 0 is `ram`) and the queue.
  void Start(int ram_fd, uint8_t* ram, uint64_t ram_bytes,
             const virtio::DriverQueue& queue);
  void Kick();
  void Wait();

 private:
  void Send(uint32_t request, const void* payload, uint32_t size_bytes,
            int fd = -1);
  uint64_t Ask(uint32_t request);

  int socket_ = -1;
  int kick_ = -1;
  int call_ = -1;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_VHOST_USER_H_

// A closed-loop load on a disk's queue: so many requests in flight, each
// answered one is sent again. One implementation for every device and peer; a
// target only says how a request is put into its rings.
//
// TRUST    Benchmarks only.
// ERRORS   A request that fails, or is not answered within ten seconds, ends
// the
//          program.
// THREADS  One.

#ifndef BULKHEAD_BENCH_DEVICE_LOAD_H_
#define BULKHEAD_BENCH_DEVICE_LOAD_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace bulkhead::bench {

struct Load {
  std::string name;
  bool write = false;
  bool random = true;
  uint32_t bytes = 4096;
  unsigned depth = 1;
  double seconds = 1;
};

// One queue of one disk, with memory that the device reads and writes.
class LoadTarget {
 public:
  static constexpr unsigned kMaxDepth = 128;
  static constexpr uint32_t kMaxBytes = 128 << 10;

  virtual ~LoadTarget() = default;
  virtual uint64_t capacity_bytes() const = 0;
  // Puts a request into the ring; `slot` < kMaxDepth is free.
  virtual void Add(unsigned slot, bool write, uint64_t offset_bytes,
                   uint32_t bytes) = 0;
  // Makes what was added visible, and tells the device if it wants to be told.
  virtual void Publish() = 0;
  // One answered request. False: there is none.
  virtual bool Take(unsigned* slot) = 0;
  // Sleeps until the device interrupts.
  virtual void Wait() = 0;
  // The process that serves it.
  virtual pid_t server() const = 0;
};

struct LoadResult {
  uint64_t requests = 0;
  double iops = 0;
  double mib_per_second = 0;
  double p50_us = 0;
  double p99_us = 0;
  double server_cpu_us = 0;  // per request
  double client_cpu_us = 0;
  uint64_t waits = 0;  // times that the client slept
};

// The client looks for answers for `spin_us` before it sleeps.
LoadResult RunLoad(LoadTarget& target, const Load& load, double spin_us);

// Prints what a service that has just worked uses in ten seconds without work.
void ShowIdle(
    LoadTarget& target,
    const std::function<std::map<std::string, uint64_t>()>& statistics);

// Nanoseconds of CPU that a process has used, all its threads.
uint64_t CpuNanoseconds(pid_t pid);

// System calls of a service so far: what the kernel counts as reads and writes
// (images, eventfds), and what the service counts itself (frames, waits, its
// ring). Wake-ups of workers (futex) are not among them.
uint64_t SystemCalls(pid_t pid,
                     const std::map<std::string, uint64_t>& statistics);

// The questions of the disk benchmarks.
std::vector<Load> StandardLoads(double seconds);

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_DEVICE_LOAD_H_

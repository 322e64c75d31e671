// The disk of a load that shares its process with it: nothing stands between,
// neither a ring in the guest's memory nor another process. What these reach
// is the ceiling for a disk that is a service.
//
// TRUST    Benchmarks only.
// ERRORS   A file that cannot be opened, a library that does not do what it
//          says, or a request that fails ends the program.
// THREADS  One.

#ifndef BULKHEAD_BENCH_IN_PROCESS_DISK_H_
#define BULKHEAD_BENCH_IN_PROCESS_DISK_H_

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/device_load.h"
#include "services/block/open.h"

namespace bulkhead::bench {

// Our own engine.
class EngineDisk : public LoadTarget {
 public:
  // `map_memory`: an image that lies in memory is mapped, as a service does it;
  // else each request is a system call.
  EngineDisk(const std::string& image, bool qcow2, bool map_memory);
  ~EngineDisk() override;
  EngineDisk(const EngineDisk&) = delete;
  EngineDisk& operator=(const EngineDisk&) = delete;

  uint64_t capacity_bytes() const override;
  void Add(unsigned slot, bool write, uint64_t offset_bytes,
           uint32_t bytes) override;
  void Publish() override;
  bool Take(unsigned* slot) override;
  void Wait() override;
  pid_t server() const override;

 private:
  struct Slot : block::Request {
    iovec segment;
    EngineDisk* self;
  };

  const int image_;
  std::vector<char> memory_;
  std::unique_ptr<block::Backend> backend_;
  Slot slots_[kMaxDepth];
  std::vector<unsigned> added_;
  std::vector<unsigned> done_;
};

// A raw image through libblkio, whose driver for files is io_uring. The library
// is loaded when it is asked for: not every system that builds this has it.
class BlkioDisk : public LoadTarget {
 public:
  // "libblkio.so.1" or a path; null where there is none. `waits`: each call
  // that submits waits for an answer too, which costs sleeps and saves calls;
  // else the library is asked until there is one.
  static std::unique_ptr<BlkioDisk> Create(const std::string& library,
                                           const std::string& image,
                                           bool waits);
  ~BlkioDisk() override;
  BlkioDisk(const BlkioDisk&) = delete;
  BlkioDisk& operator=(const BlkioDisk&) = delete;

  uint64_t capacity_bytes() const override;
  void Add(unsigned slot, bool write, uint64_t offset_bytes,
           uint32_t bytes) override;
  void Publish() override;
  bool Take(unsigned* slot) override;
  void Wait() override;
  pid_t server() const override;

 private:
  struct Library;
  BlkioDisk(std::unique_ptr<Library> library, const std::string& image,
            bool waits);
  // Submits what was added and takes what is done; waits for so many.
  void DoIo(int at_least);

  std::unique_ptr<Library> library_;
  const bool waits_;
  std::vector<char> memory_;
  unsigned in_flight_ = 0;
  bool added_ = false;  // since the last DoIo
  std::vector<unsigned> done_;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_IN_PROCESS_DISK_H_

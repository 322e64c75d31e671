// RandomDisk is an image of random bytes in a directory of its own, gone with
// the object.
//
// TRUST    Benchmarks only.
// ERRORS   A directory that cannot be written, or a missing qemu-img, ends the
//          program.
// THREADS  One.

#ifndef BULKHEAD_BENCH_RANDOM_DISK_H_
#define BULKHEAD_BENCH_RANDOM_DISK_H_

#include <cstdint>
#include <string>

namespace bulkhead::bench {

class RandomDisk {
 public:
  static constexpr uint64_t kBytes = uint64_t{512} << 20;

  // Below `parent`; raw, or qcow2 with every cluster allocated.
  RandomDisk(const std::string& parent, bool qcow2);
  ~RandomDisk();
  RandomDisk(const RandomDisk&) = delete;
  RandomDisk& operator=(const RandomDisk&) = delete;

  const std::string& directory() const { return directory_; }
  std::string path() const { return directory_ + "/disk"; }

 private:
  const std::string directory_;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_RANDOM_DISK_H_

// iobench: block device throughput and latency from inside the test guest.
//
//   iobench DEVICE read|write|randread|randwrite BLOCK_BYTES DEPTH SECONDS
//   [once]
//   iobench DEVICE verify BLOCK_BYTES DEPTH SECONDS
//
// Reads or writes with O_DIRECT through io_uring, keeping DEPTH requests in
// flight, and prints one line:
//
//   BULKHEAD-BENCH rw=randread bs=4096 depth=16 ios=1234 seconds=3.001
//       iops=411 mib_s=1.6 p50_us=38000 p99_us=52000
//
// With "once", a sequential run ends at the end of the device.
//
// "verify" writes blocks all over the device for so many seconds, each stamped
// with its own place, then reads every one of them and compares.

#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kDirectAlignment = 4096;

struct Options {
  const char* device;
  std::string_view pattern;
  uint64_t block_bytes;
  unsigned depth;
  double seconds;
  bool once;

  bool is_verify() const { return pattern == "verify"; }
  bool is_write() const { return pattern.ends_with("write") || is_verify(); }
  bool is_random() const { return pattern.starts_with("rand"); }
};

[[noreturn]] void Die(const char* what, int error) {
  std::fprintf(stderr, "iobench: %s: %s\n", what, std::strerror(error));
  std::exit(1);
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    fd_ = open(options.device,
               (options.is_write() ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (fd_ < 0) Die(options.device, errno);
    uint64_t size_bytes = 0;
    if (ioctl(fd_, BLKGETSIZE64, &size_bytes) != 0) Die("BLKGETSIZE64", errno);
    blocks_ = size_bytes / options.block_bytes;
    if (blocks_ == 0) Die("device is smaller than a block", EINVAL);
    const int made = io_uring_queue_init(options.depth, &ring_, 0);
    if (made < 0) Die("io_uring_queue_init", -made);
    started_.resize(options.depth);
    in_slot_.resize(options.depth);
    is_writing_ = options.is_write();
    for (unsigned slot = 0; slot < options.depth; ++slot) {
      buffers_.push_back(static_cast<uint8_t*>(
          std::aligned_alloc(kDirectAlignment, options.block_bytes)));
      std::memset(buffers_.back(), 0xa5, options.block_bytes);
    }
  }

  void Run() {
    Pass();
    if (is_writing_ && fsync(fd_) != 0) Die("fsync", errno);
    if (options_.is_verify()) {
      is_writing_ = false;
      most_ = submitted_;
      submitted_ = 0;
      Pass();
    }
    Print();
  }

 private:
  void Pass() {
    start_ = Clock::now();
    unsigned in_flight = 0;
    for (unsigned slot = 0; slot < options_.depth && Wanted(); ++slot) {
      Submit(slot);
      ++in_flight;
    }
    while (in_flight > 0) {
      const unsigned slot = Reap();
      if (Wanted()) {
        Submit(slot);
      } else {
        --in_flight;
      }
    }
  }

  // verify: an odd stride through a power of two of blocks meets each once.
  uint64_t Scattered(uint64_t i) const {
    return i * 2654435761 % std::bit_floor(blocks_);
  }

  void Stamp(unsigned slot, uint64_t block) {
    auto* words = reinterpret_cast<uint64_t*>(buffers_[slot]);
    for (size_t i = 0; i < options_.block_bytes / 8; ++i) {
      words[i] = block * 0x9e3779b97f4a7c15 + i;
    }
  }

  void Compare(unsigned slot) {
    const auto* words = reinterpret_cast<const uint64_t*>(buffers_[slot]);
    const uint64_t block = in_slot_[slot];
    for (size_t i = 0; i < options_.block_bytes / 8; ++i) {
      if (words[i] == block * 0x9e3779b97f4a7c15 + i) continue;
      std::fprintf(stderr, "iobench: block %llu is not what was written\n",
                   static_cast<unsigned long long>(block));
      std::exit(1);
    }
  }

  bool Wanted() const {
    if (options_.is_verify()) {
      if (submitted_ >= std::min(most_, std::bit_floor(blocks_))) return false;
      if (!is_writing_) return true;
    }
    if (options_.once && submitted_ >= blocks_) return false;
    const std::chrono::duration<double> elapsed = Clock::now() - start_;
    return elapsed.count() < options_.seconds;
  }

  void Submit(unsigned slot) {
    const uint64_t block = options_.is_verify()   ? Scattered(submitted_)
                           : options_.is_random() ? random_() % blocks_
                                                  : submitted_ % blocks_;
    in_slot_[slot] = block;
    if (options_.is_verify() && is_writing_) Stamp(slot, block);
    const uint64_t offset = block * options_.block_bytes;
    const auto length = static_cast<unsigned>(options_.block_bytes);
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (is_writing_) {
      io_uring_prep_write(entry, fd_, buffers_[slot], length, offset);
    } else {
      io_uring_prep_read(entry, fd_, buffers_[slot], length, offset);
    }
    io_uring_sqe_set_data64(entry, slot);
    started_[slot] = Clock::now();
    const int sent = io_uring_submit(&ring_);
    if (sent != 1) Die("io_uring_submit", sent < 0 ? -sent : EBUSY);
    ++submitted_;
  }

  unsigned Reap() {
    io_uring_cqe* done = nullptr;
    const int waited = io_uring_wait_cqe(&ring_, &done);
    if (waited < 0) Die("io_uring_wait_cqe", -waited);
    if (done->res != static_cast<int>(options_.block_bytes)) {
      Die(is_writing_ ? "write" : "read", done->res < 0 ? -done->res : EIO);
    }
    const auto slot = static_cast<unsigned>(io_uring_cqe_get_data64(done));
    io_uring_cqe_seen(&ring_, done);
    if (options_.is_verify() && !is_writing_) Compare(slot);
    latencies_us_.push_back(static_cast<uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() -
                                                              started_[slot])
            .count()));
    return slot;
  }

  uint32_t Percentile(double fraction) const {
    const auto last = static_cast<double>(latencies_us_.size() - 1);
    return latencies_us_[static_cast<size_t>(last * fraction)];
  }

  void Print() {
    const std::chrono::duration<double> elapsed = Clock::now() - start_;
    if (latencies_us_.empty()) Die("nothing was done in time", ETIME);
    std::sort(latencies_us_.begin(), latencies_us_.end());
    const double iops =
        static_cast<double>(latencies_us_.size()) / elapsed.count();
    const double mib = static_cast<double>(options_.block_bytes) / (1 << 20);
    std::printf(
        "BULKHEAD-BENCH rw=%s bs=%llu depth=%u ios=%zu seconds=%.3f iops=%.1f "
        "mib_s=%.2f p50_us=%u p99_us=%u\n",
        std::string(options_.pattern).c_str(),
        static_cast<unsigned long long>(options_.block_bytes), options_.depth,
        latencies_us_.size(), elapsed.count(), iops, iops * mib,
        Percentile(0.5), Percentile(0.99));
  }

  const Options options_;
  int fd_ = -1;
  uint64_t blocks_ = 0;
  uint64_t submitted_ = 0;
  io_uring ring_ = {};
  std::mt19937_64 random_{1};
  std::vector<uint8_t*> buffers_;
  std::vector<Clock::time_point> started_;
  std::vector<uint64_t> in_slot_;
  bool is_writing_ = false;
  uint64_t most_ = ~uint64_t{0};  // verify: the blocks that were written
  std::vector<uint32_t> latencies_us_;
  Clock::time_point start_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fputs(
        "usage: iobench DEVICE read|write|randread|randwrite|verify "
        "BLOCK_BYTES "
        "DEPTH SECONDS [once]\n",
        stderr);
    return 2;
  }
  const Options options = {
      .device = argv[1],
      .pattern = argv[2],
      .block_bytes = std::strtoull(argv[3], nullptr, 0),
      .depth = static_cast<unsigned>(std::strtoul(argv[4], nullptr, 0)),
      .seconds = std::strtod(argv[5], nullptr),
      .once = argc > 6 && std::string_view(argv[6]) == "once",
  };
  if (options.block_bytes % 512 != 0 || options.block_bytes == 0 ||
      options.block_bytes > (64u << 20) || options.depth == 0 ||
      options.depth > 1024) {
    std::fputs("iobench: bad block size or depth\n", stderr);
    return 2;
  }
  Bench(options).Run();
  return 0;
}

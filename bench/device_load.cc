#include "bench/device_load.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

namespace bulkhead::bench {
namespace {

uint64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}
uint64_t NowNs() { return Now(CLOCK_MONOTONIC); }

class Loop {
 public:
  Loop(LoadTarget& target, const Load& load, double spin_us)
      : target_(target),
        load_(load),
        spin_ns_(static_cast<uint64_t>(spin_us * 1000)),
        blocks_(target.capacity_bytes() / load.bytes) {
    latencies_.reserve(1 << 20);
  }

  LoadResult Run() {
    const uint64_t server_cpu = CpuNanoseconds(target_.server());
    const uint64_t client_cpu = Now(CLOCK_PROCESS_CPUTIME_ID);
    const uint64_t start = NowNs();
    end_ = start + static_cast<uint64_t>(load_.seconds * 1e9);
    for (unsigned slot = 0; slot < load_.depth; ++slot) Add(slot, start);
    target_.Publish();
    uint64_t idle_since = start;
    while (in_flight_ > 0) {
      if (Reap()) {
        idle_since = 0;
        continue;
      }
      const uint64_t now = NowNs();
      if (idle_since == 0) idle_since = now;
      if (now - idle_since < spin_ns_) continue;
      target_.Wait();
      ++result_.waits;
      idle_since = 0;
    }
    const double seconds = static_cast<double>(NowNs() - start) / 1e9;
    const auto requests = static_cast<double>(result_.requests);
    result_.iops = requests / seconds;
    result_.mib_per_second = result_.iops * load_.bytes / (1 << 20);
    result_.server_cpu_us =
        static_cast<double>(CpuNanoseconds(target_.server()) - server_cpu) /
        1e3 / requests;
    result_.client_cpu_us =
        static_cast<double>(Now(CLOCK_PROCESS_CPUTIME_ID) - client_cpu) / 1e3 /
        requests;
    std::sort(latencies_.begin(), latencies_.end());
    const auto at = [this](double part) {
      return latencies_[static_cast<size_t>(
                 part * static_cast<double>(latencies_.size() - 1))] /
             1e3;
    };
    result_.p50_us = at(0.5);
    result_.p99_us = at(0.99);
    return result_;
  }

 private:
  void Add(unsigned slot, uint64_t now) {
    const uint64_t block =
        load_.random ? random_() % blocks_ : next_++ % blocks_;
    started_[slot] = now;
    target_.Add(slot, load_.write, block * load_.bytes, load_.bytes);
    ++in_flight_;
  }

  // All that is answered now, sent again in one batch.
  bool Reap() {
    unsigned slot;
    if (!target_.Take(&slot)) return false;
    const uint64_t now = NowNs();
    do {
      --in_flight_;
      ++result_.requests;
      latencies_.push_back(static_cast<uint32_t>(now - started_[slot]));
      if (now < end_) Add(slot, now);
    } while (target_.Take(&slot));
    target_.Publish();
    return true;
  }

  LoadTarget& target_;
  const Load load_;
  const uint64_t spin_ns_;
  const uint64_t blocks_;
  std::minstd_rand random_{1};
  uint64_t next_ = 0;
  uint64_t end_ = 0;
  unsigned in_flight_ = 0;
  uint64_t started_[LoadTarget::kMaxDepth] = {};
  std::vector<uint32_t> latencies_;
  LoadResult result_;
};

}  // namespace

LoadResult RunLoad(LoadTarget& target, const Load& load, double spin_us) {
  return Loop(target, load, spin_us).Run();
}

void ShowIdle(
    LoadTarget& target,
    const std::function<std::map<std::string, uint64_t>()>& statistics) {
  RunLoad(target, {.name = "", .depth = 32, .seconds = 0.5}, 50);
  const timespec settle = {0, 200'000'000};
  nanosleep(&settle, nullptr);
  const auto before = statistics();
  const uint64_t cpu = CpuNanoseconds(target.server());
  const timespec pause = {10, 0};
  nanosleep(&pause, nullptr);
  const uint64_t used = CpuNanoseconds(target.server()) - cpu;
  auto after = statistics();
  printf("idle for 10 s: %.1f us of CPU, %lu sleeps (two of them ours)\n",
         static_cast<double>(used) / 1e3,
         after["sleeps"] - before.at("sleeps"));
}

uint64_t CpuNanoseconds(pid_t pid) {
  uint64_t total = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator(
           "/proc/" + std::to_string(pid) + "/task", error)) {
    uint64_t on_cpu = 0;
    std::ifstream(task.path() / "schedstat") >> on_cpu;
    total += on_cpu;
  }
  return total;
}

uint64_t SystemCalls(pid_t pid,
                     const std::map<std::string, uint64_t>& statistics) {
  uint64_t calls = 0;
  std::ifstream io("/proc/" + std::to_string(pid) + "/io");
  std::string key;
  for (uint64_t value; io >> key >> value;) {
    if (key == "syscr:" || key == "syscw:") calls += value;
  }
  for (const char* counter : {"polls", "receives", "block_ring_enters"}) {
    const auto found = statistics.find(counter);
    if (found != statistics.end()) calls += found->second;
  }
  return calls;
}

std::vector<Load> StandardLoads(double seconds) {
  std::vector<Load> loads;
  for (const bool write : {false, true}) {
    for (const unsigned depth : {1u, 32u, 128u}) {
      loads.push_back({.name = std::string("4 KiB rand") +
                               (write ? "write" : "read") + " depth " +
                               std::to_string(depth),
                       .write = write,
                       .depth = depth,
                       .seconds = seconds});
    }
    loads.push_back({.name = std::string("128 KiB ") +
                             (write ? "write" : "read") + " depth 8",
                     .write = write,
                     .random = false,
                     .bytes = 128 << 10,
                     .depth = 8,
                     .seconds = seconds});
  }
  return loads;
}

}  // namespace bulkhead::bench

// Kills the real service, jailed, at random moments under load, and looks at
// what it leaves behind.
//
//   bazel run //tests/storage:kill_campaign -- --kills=600
//
// A driver keeps sixteen requests in flight: writes of one block and of many,
// zeroes, discards, reads, flushes. After each SIGKILL the image must be one
// that `qemu-img check` calls clean or leaking only, and each sector must hold
// a version that was written to it, and none older than the last one that a
// completed flush covers. Then the next service opens the same image.
//
// It also counts what no flush covered and is gone, though its write had
// completed: what a restarted service would owe the guest.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "policy/virtio_blk.h"
#include "services/block/qcow2/qemu_tools.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/virtio/testing/driver_queue.h"
#include "services/virtio/testing/pci_driver.h"
#include "services/virtio_blk/spec.h"

ABSL_FLAG(int, kills, 600, "how often the service is killed");
ABSL_FLAG(uint64_t, seed, 1, "of the random numbers");

namespace bulkhead {
namespace {

namespace blk = virtio_blk;
using block::qcow2::ImageDirectory;
using block::qcow2::QemuImg;

constexpr uint64_t kSector = 512;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 4096;  // a disk of 16 MiB
constexpr uint32_t kMostBlocks = 16;
constexpr unsigned kDepth = 16;
constexpr int kKillsPerImage = 12;

constexpr uint64_t kRingAt = 0x10000;
constexpr uint64_t kHeaderAt = 0x100000;
constexpr uint64_t kStatusAt = 0x110000;
constexpr uint64_t kRangeAt = 0x120000;
constexpr uint64_t kDataAt = 0x200000;
constexpr uint64_t kDataStride = kMostBlocks * kBlock;

uint64_t NowUs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 +
         static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// What a sector of a block holds after version `version` was written: its place
// and the version, over and over, and never a zero.
void FillSector(uint8_t* to, uint64_t sector, uint32_t version) {
  const uint64_t words[2] = {sector | uint64_t{0xb1} << 56,
                             version | uint64_t{0xc2} << 56};
  for (size_t i = 0; i < kSector; i += sizeof(words)) {
    memcpy(to + i, words, sizeof(words));
  }
}

// The model: every version that a block was given, and which must be there.
struct Block {
  enum class Kind : uint8_t { kData, kZero, kDiscard };
  std::vector<Kind> versions = {Kind::kZero};  // by number
  uint32_t floor = 0;                          // no older one may be seen
  uint32_t completed = 0;  // the last one whose request has ended
  bool busy = false;       // a request is in flight
};

struct Totals {
  uint64_t kills = 0;
  uint64_t requests = 0;
  uint64_t flushes = 0;
  uint64_t leaking = 0;
  uint64_t unflushed_lost = 0;
  uint64_t failures = 0;
};

struct Kind {
  const char* name;
  const char* create;  // qemu-img create options
  bool is_qcow2;
  bool from_base;   // an overlay over a raw image full of version 1
  bool compressed;  // all of it compressed, version 1
  bool snapshots;   // one is taken before each service
};

constexpr Kind kKinds[] = {
    {"raw", "", false, false, false, false},
    {"qcow2", "", true, false, false, false},
    {"qcow2, clusters of 4 KiB", "-o cluster_size=4k", true, false, false,
     false},
    {"qcow2, lazy refcounts", "-o lazy_refcounts=on", true, false, false,
     false},
    {"qcow2 over a base", "", true, true, false, false},
    {"qcow2, compressed", "", true, false, true, false},
    {"qcow2, snapshots", "", true, false, false, true},
};

class Campaign {
 public:
  explicit Campaign(uint64_t seed) : random_(seed) {}

  Totals Run(int kills) {
    int kind = 0;
    while (totals_.kills < static_cast<uint64_t>(kills) &&
           totals_.failures == 0) {
      RunImage(kKinds[kind], kills);
      kind = (kind + 1) % static_cast<int>(std::size(kKinds));
    }
    return totals_;
  }

 private:
  struct Slot {
    uint32_t type = 0;
    uint64_t first = 0;  // block
    uint32_t count = 0;
    uint32_t version = 0;  // in the blocks' own numbering: the last
    bool busy = false;
    std::vector<uint32_t> covered;  // a flush: what had completed before it
  };

  uint64_t Below(uint64_t n) { return random_() % n; }

  void Fail(const std::string& why) {
    fprintf(stderr, "FAILED after %lu kills (%s): %s\n", totals_.kills,
            kind_->name, why.c_str());
    ++totals_.failures;
  }

  void RunImage(const Kind& kind, int kills) {
    kind_ = &kind;
    ImageDirectory directory;
    image_ = directory.Path("disk");
    blocks_.assign(kBlocks, Block());
    std::string base;
    if (kind.from_base || kind.compressed) {
      base = directory.Path("base");
      std::string bytes(kBlocks * kBlock, '\0');
      for (uint64_t s = 0; s < bytes.size() / kSector; ++s) {
        FillSector(reinterpret_cast<uint8_t*>(&bytes[s * kSector]), s, 1);
      }
      FILE* file = fopen(base.c_str(), "w");
      fwrite(bytes.data(), 1, bytes.size(), file);
      fclose(file);
      for (Block& block : blocks_) {
        block.versions.push_back(Block::Kind::kData);
        block.floor = block.completed = 1;
      }
    }
    if (kind.compressed) {
      QemuImg(absl::StrCat("convert -c -f raw -O qcow2 ", base, " ", image_));
    } else if (kind.from_base) {
      QemuImg(absl::StrCat("create -f qcow2 -F raw -b ", base, " ", image_));
    } else {
      QemuImg(absl::StrCat("create -f ", kind.is_qcow2 ? "qcow2" : "raw", " ",
                           kind.create, " ", image_, " ", kBlocks * kBlock));
    }
    for (int i = 0; i < kKillsPerImage && totals_.failures == 0 &&
                    totals_.kills < static_cast<uint64_t>(kills);
         ++i) {
      if (kind.snapshots) {
        QemuImg(absl::StrCat("snapshot -c s", i, " ", image_));
      }
      RunService(kind.from_base ? base : "");
      if (totals_.failures == 0) Judge();
    }
  }

  // One life of the service.
  void RunService(const std::string& base) {
    const int disk = open(image_.c_str(), O_RDWR | O_CLOEXEC);
    std::vector<int> fds = {disk};
    ServiceConfig config;
    config.mutable_virtio_blk()->set_serial("kill");
    BackendConfig* backend = config.add_backends();
    backend->mutable_image()->set_fd(7);
    backend->mutable_image()->set_name(image_);
    backend->mutable_image()->set_format(kind_->is_qcow2 ? QCOW2 : RAW);
    if (!base.empty()) {
      fds.push_back(open(base.c_str(), O_RDONLY | O_CLOEXEC));
      ImageFile* parent = backend->add_backing();
      parent->set_fd(8);
      parent->set_format(RAW);
      parent->set_name(base);
    }
    rig_ = FrameRig::Spawn("services/virtio_blk/service", policy::VirtioBlk(),
                           config, fds, {});
    for (const int fd : fds) close(fd);
    if (!rig_->fault().empty()) {
      Fail(rig_->fault());
      return;
    }
    Boot();
    const uint64_t end = NowUs() + Below(40'000);
    std::fill(std::begin(slots_), std::end(slots_), Slot());
    while (NowUs() < end) {
      for (uint32_t i = 0; i < kDepth; ++i) {
        if (!slots_[i].busy) Submit(i);
      }
      if (queue_->Publish()) driver_->Notify(0);
      TakeAll();
    }
    kill(rig_->pid(), SIGKILL);
    rig_->Finish();
    // What had been told before the end counts.
    TakeAll();
    ++totals_.kills;
    queue_.reset();
    driver_.reset();
    rig_.reset();
    for (Block& block : blocks_) block.busy = false;
  }

  void Boot() {
    driver_ = std::make_unique<virtio::PciDriver>(
        [this](uint32_t region, uint64_t offset, unsigned size) {
          return rig_->Read(region, offset, size);
        },
        [this](uint32_t region, uint64_t offset, unsigned size,
               uint64_t value) { rig_->Write(region, offset, size, value); });
    if (!driver_->Reset() || !driver_->Negotiate(driver_->DeviceFeatures() &
                                                 ~(virtio::kFeatureIndirect |
                                                   virtio::kFeaturePacked))) {
      Fail("the device does not start");
      return;
    }
    queue_ = std::make_unique<virtio::DriverQueue>(
        virtio::DriverQueue::Options{.ram = rig_->ram_base(),
                                     .at = kRingAt,
                                     .size = 128,
                                     .event_index = true});
    queue_->DisableInterrupts();
    driver_->SetUpQueue(0, *queue_, virtio::kNoVector);
    driver_->Start();
  }

  // No two requests in flight touch the same block, so that each block's
  // versions have an order.
  bool Claim(uint64_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      if (blocks_[first + i].busy) return false;
    }
    return true;
  }

  void Submit(uint32_t index) {
    Slot& slot = slots_[index];
    const uint64_t dice = Below(100);
    slot = Slot();
    slot.type = dice < 62   ? blk::kTypeOut
                : dice < 72 ? blk::kTypeIn
                : dice < 80 ? blk::kTypeFlush
                : dice < 92 ? blk::kTypeWriteZeroes
                            : blk::kTypeDiscard;
    if (slot.type != blk::kTypeFlush) {
      slot.count =
          Below(3) == 0 ? 1 + static_cast<uint32_t>(Below(kMostBlocks)) : 1;
      slot.first = Below(kBlocks - slot.count);
      if (!Claim(slot.first, slot.count)) return;
    }
    uint8_t* const data = rig_->ram_base() + kDataAt + index * kDataStride;
    std::vector<virtio::Buffer> buffers = {{kHeaderAt + index * 16, 16, false}};
    const auto bytes = static_cast<uint32_t>(slot.count * kBlock);
    uint64_t sector = slot.first * kBlock / kSector;
    switch (slot.type) {
      case blk::kTypeOut:
        Give(slot, Block::Kind::kData);
        for (uint32_t s = 0; s < bytes / kSector; ++s) {
          const Block& block = blocks_[slot.first + s * kSector / kBlock];
          FillSector(data + s * kSector, sector + s,
                     static_cast<uint32_t>(block.versions.size() - 1));
        }
        buffers.push_back({kDataAt + index * kDataStride, bytes, false});
        break;
      case blk::kTypeIn:
        buffers.push_back({kDataAt + index * kDataStride, bytes, true});
        break;
      case blk::kTypeFlush:
        slot.covered.reserve(kBlocks);
        for (const Block& block : blocks_) {
          slot.covered.push_back(block.completed);
        }
        break;
      default: {
        Give(slot, slot.type == blk::kTypeDiscard ? Block::Kind::kDiscard
                                                  : Block::Kind::kZero);
        const blk::Range range = {
            sector, static_cast<uint32_t>(bytes / kSector),
            slot.type == blk::kTypeWriteZeroes && Below(2) == 0 ? 1u : 0u};
        memcpy(rig_->ram_base() + kRangeAt + index * sizeof(range), &range,
               sizeof(range));
        buffers.push_back({kRangeAt + index * sizeof(range),
                           static_cast<uint32_t>(sizeof(range)), false});
        sector = 0;
      }
    }
    const blk::RequestHeader header = {
        slot.type, 0u, slot.type == blk::kTypeFlush ? 0 : sector};
    memcpy(rig_->ram_base() + kHeaderAt + index * 16, &header, sizeof(header));
    rig_->ram_base()[kStatusAt + index] = 0xee;
    buffers.push_back({kStatusAt + index, 1, true});
    if (!queue_->Add(buffers, index)) abort();
    slot.busy = true;
    for (uint32_t i = 0; i < slot.count; ++i) {
      blocks_[slot.first + i].busy = true;
    }
  }

  void Give(const Slot& slot, Block::Kind kind) {
    for (uint32_t i = 0; i < slot.count; ++i) {
      blocks_[slot.first + i].versions.push_back(kind);
    }
  }

  void TakeAll() {
    uint32_t token;
    uint32_t written;
    while (queue_->Take(&token, &written)) {
      Slot& slot = slots_[token];
      slot.busy = false;
      ++totals_.requests;
      for (uint32_t i = 0; i < slot.count; ++i) {
        blocks_[slot.first + i].busy = false;
      }
      if (rig_->ram_base()[kStatusAt + token] != blk::kStatusOk) {
        Fail(absl::StrCat("request of type ", slot.type, " failed"));
        return;
      }
      if (slot.type == blk::kTypeFlush) {
        ++totals_.flushes;
        for (uint64_t b = 0; b < kBlocks; ++b) Raise(b, slot.covered[b]);
      } else if (slot.type != blk::kTypeIn) {
        for (uint32_t i = 0; i < slot.count; ++i) {
          Block& block = blocks_[slot.first + i];
          block.completed = static_cast<uint32_t>(block.versions.size() - 1);
        }
      }
    }
  }

  // A discard promises nothing: what was there before may stay.
  void Raise(uint64_t index, uint32_t version) {
    Block& block = blocks_[index];
    while (version > block.floor &&
           block.versions[version] == Block::Kind::kDiscard) {
      --version;
    }
    block.floor = std::max(block.floor, version);
  }

  void Judge() {
    if (kind_->is_qcow2) {
      const std::string bad = block::qcow2::CorruptionComplaint(image_);
      if (!bad.empty()) {
        Fail("qemu-img check: " + bad);
        return;
      }
      if (!block::qcow2::CheckComplaint(image_).empty()) ++totals_.leaking;
    }
    std::string content;
    if (kind_->is_qcow2) {
      content = block::qcow2::ContentByQemu(image_);
    } else {
      content.resize(kBlocks * kBlock);
      FILE* file = fopen(image_.c_str(), "r");
      if (fread(content.data(), 1, content.size(), file) != content.size()) {
        Fail("the raw image became shorter");
      }
      fclose(file);
    }
    for (uint64_t b = 0; b < kBlocks; ++b) JudgeBlock(b, content);
  }

  void JudgeBlock(uint64_t index, const std::string& content) {
    Block& block = blocks_[index];
    const auto last = static_cast<uint32_t>(block.versions.size() - 1);
    uint32_t oldest = last;
    uint32_t newest = 0;
    for (uint64_t i = 0; i < kBlock / kSector; ++i) {
      const uint64_t sector = index * (kBlock / kSector) + i;
      const auto* bytes =
          reinterpret_cast<const uint8_t*>(&content[sector * kSector]);
      uint32_t low = 0;
      uint32_t high = 0;
      if (!Recognize(block, sector, bytes, &low, &high)) {
        Fail(absl::StrCat("sector ", sector, " holds what was never written, ",
                          "or is older than version ", block.floor, " of ",
                          last));
        return;
      }
      oldest = std::min(oldest, low);
      newest = std::max(newest, high);
    }
    if (newest < block.completed &&
        block.versions[block.completed] == Block::Kind::kData) {
      ++totals_.unflushed_lost;
    }
    // From here on this is what the image holds.
    block.floor = oldest;
    block.completed = newest;
    block.versions.resize(newest + 1);
  }

  // The versions that the sector may be, none older than the floor.
  bool Recognize(const Block& block, uint64_t sector, const uint8_t* bytes,
                 uint32_t* low, uint32_t* high) const {
    const auto last = static_cast<uint32_t>(block.versions.size() - 1);
    uint64_t words[2];
    memcpy(words, bytes, sizeof(words));
    if (words[0] != 0) {
      const auto version = static_cast<uint32_t>(words[1]);
      uint8_t expected[kSector];
      FillSector(expected, sector, version);
      if (version < block.floor || version > last ||
          block.versions[version] != Block::Kind::kData ||
          memcmp(bytes, expected, kSector) != 0) {
        return false;
      }
      *low = version;
      // A discard after it may have left it.
      *high = version;
      while (*high < last &&
             block.versions[*high + 1] == Block::Kind::kDiscard) {
        ++*high;
      }
      return true;
    }
    static constexpr uint8_t kZeroes[kSector] = {};
    if (memcmp(bytes, kZeroes, kSector) != 0) return false;
    bool found = false;
    for (uint32_t v = block.floor; v <= last; ++v) {
      if (block.versions[v] == Block::Kind::kData) continue;
      if (!found) *low = v;
      *high = v;
      found = true;
    }
    return found;
  }

  std::mt19937_64 random_;
  Totals totals_;
  const Kind* kind_ = nullptr;
  std::string image_;
  std::vector<Block> blocks_;
  Slot slots_[kDepth];
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::unique_ptr<virtio::DriverQueue> queue_;
};

int Main() {
  const Totals totals =
      Campaign(absl::GetFlag(FLAGS_seed)).Run(absl::GetFlag(FLAGS_kills));
  printf(
      "%lu kills, %lu requests and %lu flushes completed; images leaking: %lu; "
      "blocks whose last completed, unflushed write is gone: %lu; failures: "
      "%lu\n",
      totals.kills, totals.requests, totals.flushes, totals.leaking,
      totals.unflushed_lost, totals.failures);
  return totals.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::Main();
}

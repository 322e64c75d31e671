// Model is what a disk should hold, and random requests that change both.
//
// THREADS  The test's; instances are independent.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_MODEL_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_MODEL_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "services/block/qcow2/qemu_tools.h"
#include "services/block/rig.h"

namespace bulkhead::block::qcow2 {

// A model of the disk beside it, and many requests in flight that do not
// overlap: whatever the order, the outcome is one.
class Model {
 public:
  Model(Rig* rig, std::string content, uint64_t seed)
      : rig_(*rig), content_(std::move(content)), random_(seed) {}

  void Run(int steps, size_t depth) {
    for (int i = 0; i < steps; ++i) {
      while (flying_.size() >= depth) Reap();
      SubmitOne();
    }
    while (!flying_.empty()) Reap();
  }
  const std::string& content() const { return content_; }

 private:
  uint64_t Random(uint64_t below) { return random_() % below; }

  void SubmitOne() {
    const uint64_t sectors = content_.size() / 512;
    const uint64_t most = Random(4) == 0 ? 1024 : 24;
    const uint64_t length = std::min<uint64_t>(1 + Random(most), sectors) * 512;
    const uint64_t offset = Random(sectors - length / 512 + 1) * 512;
    for (const auto& other : flying_) {
      if (other->offset_bytes < offset + length &&
          offset < other->offset_bytes + other->length_bytes) {
        return;
      }
    }
    const unsigned kind = Random(20);
    if (kind < 10) {
      const std::string data = Pattern(random_(), offset, length);
      content_.replace(offset, length, data);
      flying_.push_back(Rig::Make(Operation::kWrite, offset, length, data));
      flying_.back()->force_unit_access = Random(16) == 0;
    } else if (kind < 14) {
      flying_.push_back(Rig::Make(Operation::kRead, offset, length));
    } else if (kind < 17) {
      content_.replace(offset, length, std::string(length, 0));
      flying_.push_back(Rig::Make(Operation::kWriteZeroes, offset, length));
      flying_.back()->may_unmap = Random(2) == 0;
    } else if (kind < 19) {
      // Contents are undefined after a discard, so zeroes come after it.
      rig_.Discard(offset, length);
      content_.replace(offset, length, std::string(length, 0));
      flying_.push_back(Rig::Make(Operation::kWriteZeroes, offset, length));
      flying_.back()->may_unmap = true;
    } else {
      flying_.push_back(Rig::Make(Operation::kFlush, 0, 0));
    }
    rig_.Submit(flying_.back().get());
  }

  void Reap() {
    while (true) {
      for (auto it = flying_.begin(); it != flying_.end(); ++it) {
        if (!(*it)->ended) continue;
        Verify(**it);
        flying_.erase(it);
        return;
      }
      rig_.PollOnce();
    }
  }

  void Verify(const RigRequest& request) {
    EXPECT_EQ(request.status, IoStatus::kOk)
        << static_cast<int>(request.operation) << " at " << request.offset_bytes
        << " + " << request.length_bytes;
    if (request.operation != Operation::kRead) return;
    EXPECT_TRUE(request.data ==
                content_.substr(request.offset_bytes, request.length_bytes))
        << "at " << request.offset_bytes << " + " << request.length_bytes;
  }

  Rig& rig_;
  std::string content_;
  std::mt19937_64 random_;
  std::list<std::unique_ptr<RigRequest>> flying_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_MODEL_H_

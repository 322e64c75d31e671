// The host fails: no space, I/O errors, short transfers, at every single call
// in turn. The guest gets the right error, the image stays sound, and all goes
// on when the host does.

#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "services/block/memory_file.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/qemu_tools.h"
#include "services/block/rig.h"

namespace bulkhead::block::qcow2 {
namespace {

enum class Call { kRead, kWrite, kSync, kPunch, kTruncate, kCalls };

// Fails `count` calls of one kind, from the `from`th on.
struct Fault {
  Call call = Call::kCalls;
  uint64_t from = 0;
  uint64_t count = 0;
  int error = EIO;
};

struct Plan {
  Fault fault;
  bool short_transfers = false;
  std::array<uint64_t, static_cast<size_t>(Call::kCalls)> calls = {};

  int ErrorOf(Call call) {
    const uint64_t n = calls[static_cast<size_t>(call)]++;
    return call == fault.call && n >= fault.from && n - fault.from < fault.count
               ? -fault.error
               : 0;
  }
};

class FaultyFile final : public MemoryFile {
 public:
  FaultyFile(std::shared_ptr<MemoryDisk> disk, Plan* plan)
      : MemoryFile(std::move(disk)), plan_(*plan) {}

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset,
               Wait wait) override {
    if (const int error = plan_.ErrorOf(Call::kRead); error != 0) return error;
    if (plan_.short_transfers) {
      const iovec part = Part(segments);
      return MemoryFile::Read(&part, 1, offset, wait);
    }
    return MemoryFile::Read(segments, count, offset, wait);
  }
  ssize_t Write(const iovec* segments, size_t count, uint64_t offset,
                Wait wait) override {
    if (const int error = plan_.ErrorOf(Call::kWrite); error != 0) return error;
    if (plan_.short_transfers) {
      const iovec part = Part(segments);
      return MemoryFile::Write(&part, 1, offset, wait);
    }
    return MemoryFile::Write(segments, count, offset, wait);
  }
  int Sync() override {
    const int error = plan_.ErrorOf(Call::kSync);
    return error != 0 ? error : MemoryFile::Sync();
  }
  int PunchHole(uint64_t offset, uint64_t length) override {
    const int error = plan_.ErrorOf(Call::kPunch);
    return error != 0 ? error : MemoryFile::PunchHole(offset, length);
  }
  int ZeroRange(uint64_t offset, uint64_t length) override {
    const int error = plan_.ErrorOf(Call::kPunch);
    return error != 0 ? error : MemoryFile::ZeroRange(offset, length);
  }
  int Truncate(uint64_t size) override {
    const int error = plan_.ErrorOf(Call::kTruncate);
    return error != 0 ? error : MemoryFile::Truncate(size);
  }

 private:
  // Not all that was asked, not even whole words.
  static iovec Part(const iovec* segments) {
    return {
        segments->iov_base,
        std::max<size_t>(segments->iov_len * 2 / 3 | 1, 1) > segments->iov_len
            ? segments->iov_len
            : std::max<size_t>(segments->iov_len * 2 / 3 | 1, 1)};
  }

  Plan& plan_;
};

struct Variant {
  const char* name;
  const char* options;
  bool overlay;
};

class FaultTest : public ::testing::TestWithParam<Variant> {
 protected:
  static constexpr uint64_t kBytes = 1 << 20;

  FaultTest() {
    const std::string base = images_.Path("base");
    QemuImg("create -q -f qcow2 -o cluster_size=4k " + base + " 1M");
    QemuIo(base, {"write -P 1 0 300k"});
    const std::string path = images_.Path("disk");
    QemuImg(std::string("create -q -f qcow2 -o ") + GetParam().options +
            (GetParam().overlay ? " -F qcow2 -b " + base : "") + " " + path +
            " 1M");
    image_ = Bytes(path);
    if (GetParam().overlay) parent_ = Bytes(base);
    first_ = ContentByQemu(path);
  }

  static std::string Bytes(const std::string& path) {
    const ToolResult result = RunTool({"cat", path});
    return result.output;
  }

  Rig Open(Plan* plan) {
    disk_ = std::make_shared<MemoryDisk>();
    disk_->bytes = image_;
    return OpenAgain(plan, /*read_only=*/false);
  }
  Rig OpenAgain(Plan* plan, bool read_only) {
    std::vector<ChainFile> chain;
    chain.push_back({std::make_unique<FaultyFile>(disk_, plan), true, "disk"});
    if (!parent_.empty()) {
      auto parent = std::make_shared<MemoryDisk>();
      parent->bytes = parent_;
      chain.push_back({std::make_unique<MemoryFile>(parent), true, "base"});
    }
    auto pool = WorkerPool::Create(0, AtEnd::kJoin);
    auto engine = OpenChain(
        std::move(chain), *std::move(pool),
        {.engine = {.read_only = read_only}, .l2_cache_bytes = 64 << 10});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return Rig(*std::move(engine));
  }

  struct Step {
    Operation operation;
    uint64_t offset;
    uint64_t bytes;
  };
  static const std::vector<Step>& Steps() {
    static const std::vector<Step> steps = {
        {Operation::kWrite, 0, 4096},
        {Operation::kWrite, 100 << 10, 50 << 10},
        {Operation::kFlush, 0, 0},
        {Operation::kWrite, (300 << 10) - 512, 1024},
        {Operation::kWriteZeroes, 64 << 10, 64 << 10},
        {Operation::kRead, 0, 256 << 10},
        {Operation::kWrite, 600 << 10, 200 << 10},
        {Operation::kDiscard, 600 << 10, 64 << 10},
        {Operation::kFlush, 0, 0},
        {Operation::kWrite, 610 << 10, 8192},
        {Operation::kWrite, 100 << 10, 512},
        {Operation::kFlush, 0, 0}};
    return steps;
  }

  // One step; what it must leave goes into `content` once it has succeeded.
  // Between, the bytes it touches are nobody's promise.
  IoStatus Do(Rig& rig, size_t i, std::string* content) {
    const Step& step = Steps()[i];
    std::string data;
    if (step.operation == Operation::kWrite) {
      data = Pattern(i, step.offset, step.bytes);
    }
    const IoStatus status =
        rig.Run(Rig::Make(step.operation, step.offset, step.bytes, data));
    if (status == IoStatus::kOk && step.operation == Operation::kWrite) {
      content->replace(step.offset, step.bytes, data);
    }
    if (status == IoStatus::kOk && step.operation == Operation::kWriteZeroes) {
      content->replace(step.offset, step.bytes, std::string(step.bytes, 0));
    }
    // What a discard leaves is the engine's choice, but made once.
    if (status == IoStatus::kOk && step.operation == Operation::kDiscard) {
      std::string left = rig.ReadOk(step.offset, step.bytes);
      if (left.empty()) left = rig.ReadOk(step.offset, step.bytes);
      content->replace(step.offset, step.bytes, left);
    }
    return status;
  }

  void ExpectNoCorruption() {
    MemoryFile file(disk_);
    const auto report = Check(file, kSetUpBudget);
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_EQ(report->corruptions, 0u) << report->first_problem;
  }

  void ExpectSound(const std::string& content) {
    ExpectNoCorruption();
    if (HasFatalFailure()) return;
    Plan no_plan;
    Rig rig = OpenAgain(&no_plan, /*read_only=*/true);
    EXPECT_TRUE(Content(rig) == content);
  }

  // The fault, then all again without it.
  void RunWith(const Fault& fault, IoStatus expected) {
    Plan plan;
    std::string content = first_;
    bool flush_failed = false;
    {
      Rig rig = Open(&plan);
      const auto before = plan.calls;
      plan.fault = fault;
      plan.fault.from += before[static_cast<size_t>(fault.call)];
      for (size_t i = 0; i < Steps().size(); ++i) {
        IoStatus status = Do(rig, i, &content);
        if (status == IoStatus::kOk) continue;
        ASSERT_EQ(status, expected) << "step " << i;
        // Space is back; the guest's driver tries again.
        plan.fault.count = 0;
        status = Do(rig, i, &content);
        flush_failed |= status != IoStatus::kOk;
        if (fault.call == Call::kSync) {
          // What was lost is told for ever: a flush must not lie.
          ASSERT_TRUE(status == IoStatus::kOk || status == IoStatus::kIoError);
        } else {
          ASSERT_EQ(status, IoStatus::kOk) << "step " << i << " again";
        }
      }
      plan.fault.count = 0;
    }
    // After a flush that failed for good, contents are nobody's promise.
    if (flush_failed) {
      ExpectNoCorruption();
    } else {
      ExpectSound(content);
    }
  }

  uint64_t CallsOf(Call call) {
    Plan plan;
    Rig rig = Open(&plan);
    const uint64_t before = plan.calls[static_cast<size_t>(call)];
    std::string content = first_;
    for (size_t i = 0; i < Steps().size(); ++i) Do(rig, i, &content);
    return plan.calls[static_cast<size_t>(call)] - before;
  }

  void RunAtEveryCall(Call call, int error, IoStatus expected, uint64_t count) {
    const uint64_t calls = CallsOf(call);
    for (uint64_t from = 0; from < calls; ++from) {
      SCOPED_TRACE(::testing::Message() << "call " << from << " of " << calls);
      RunWith({call, from, count, error}, expected);
      if (HasFatalFailure()) return;
    }
  }

  ImageDirectory images_;
  std::string image_;
  std::string parent_;
  std::string first_;
  std::shared_ptr<MemoryDisk> disk_;
};

TEST_P(FaultTest, NoSpaceAtAnyWriteIsToldAndWritingResumes) {
  RunAtEveryCall(Call::kWrite, ENOSPC, IoStatus::kNoSpace, 1);
  RunAtEveryCall(Call::kWrite, ENOSPC, IoStatus::kNoSpace, 1000);
}

TEST_P(FaultTest, NoSpaceForALongerFileIsToldAndWritingResumes) {
  RunAtEveryCall(Call::kTruncate, ENOSPC, IoStatus::kNoSpace, 1000);
}

TEST_P(FaultTest, ErrorAtAnyWriteIsToldAndWritingResumes) {
  RunAtEveryCall(Call::kWrite, EIO, IoStatus::kIoError, 1);
  RunAtEveryCall(Call::kWrite, EIO, IoStatus::kIoError, 1000);
}

TEST_P(FaultTest, ErrorAtAnyReadIsToldAndReadingResumes) {
  RunAtEveryCall(Call::kRead, EIO, IoStatus::kIoError, 1);
}

TEST_P(FaultTest, HolesThatCannotBeMadeAreWrittenOrToldOf) {
  RunAtEveryCall(Call::kPunch, EOPNOTSUPP, IoStatus::kIoError, 1000);
  RunAtEveryCall(Call::kPunch, EIO, IoStatus::kIoError, 1);
}

TEST_P(FaultTest, FailedSyncIsNeverFollowedByAFlushThatLies) {
  RunAtEveryCall(Call::kSync, EIO, IoStatus::kIoError, 1);
}

// Where the header's own write fails, it is not known what the file says: the
// disk then behaves as after a failed sync, and is sound when opened again.
TEST_P(FaultTest, FailureWhileTheDiskGrowsIsToldAndTheImageStaysSound) {
  for (const Call call :
       {Call::kRead, Call::kWrite, Call::kTruncate, Call::kSync}) {
    for (uint64_t from = 0;; ++from) {
      SCOPED_TRACE(::testing::Message()
                   << "call " << from << " of kind " << static_cast<int>(call));
      Plan plan;
      std::string content = first_;
      bool failed = false;
      {
        Rig rig = Open(&plan);
        ASSERT_EQ(Do(rig, 0, &content), IoStatus::kOk);
        ASSERT_EQ(rig.Flush(), IoStatus::kOk);
        plan.fault = {call, plan.calls[static_cast<size_t>(call)] + from, 1,
                      call == Call::kTruncate ? ENOSPC : EIO};
        const absl::Status status = rig.Grow(3 * kBytes);
        failed = !status.ok();
        plan.fault.count = 0;
        if (failed && rig.Flush() == IoStatus::kOk) {
          EXPECT_EQ(rig.backend().geometry().capacity_bytes, kBytes);
          ASSERT_EQ(rig.Grow(3 * kBytes), absl::OkStatus());
          content.resize(3 * kBytes, 0);
        } else if (!failed) {
          content.resize(3 * kBytes, 0);
        }
      }
      ExpectNoCorruption();
      Plan no_plan;
      Rig rig = OpenAgain(&no_plan, /*read_only=*/true);
      content.resize(rig.backend().geometry().capacity_bytes, 0);
      EXPECT_TRUE(Content(rig) == content);
      if (!failed) break;
    }
  }
}

TEST_P(FaultTest, ShortTransfersAreGoneOnWith) {
  Plan plan;
  plan.short_transfers = true;
  std::string content = first_;
  {
    Rig rig = Open(&plan);
    for (size_t i = 0; i < Steps().size(); ++i) {
      ASSERT_EQ(Do(rig, i, &content), IoStatus::kOk) << "step " << i;
    }
    EXPECT_TRUE(Content(rig) == content);
  }
  ExpectSound(content);
}

INSTANTIATE_TEST_SUITE_P(
    Images, FaultTest,
    ::testing::Values(Variant{"plain", "cluster_size=4k", false},
                      Variant{"overlay", "cluster_size=16k", true},
                      Variant{"clusters_512", "cluster_size=512", true},
                      Variant{"extended", "extended_l2=on,cluster_size=16k",
                              true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bulkhead::block::qcow2

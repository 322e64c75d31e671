// What a hostile driver can put into registers, queues and lists, given to the
// real program under its real filters: each gets the status, the event or the
// fatal state that the specification names, and the controller works on.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>

#include "services/nvme/testing/live_controller.h"

namespace bulkhead::nvme {
namespace {

constexpr uint64_t kDiskBytes = 64 << 20;
constexpr uint64_t kRamBytes = 16 << 20;
// In RAM that FrameDriver leaves alone.
constexpr uint64_t kSq = FrameDriver::kFreeRam;
constexpr uint64_t kCq = kSq + 0x10000;
constexpr uint64_t kList = kSq + 0x20000;
constexpr uint64_t kBuffer = 0x400000;
constexpr uint64_t kHoleAt = uint64_t{1} << 40;

class NvmeBadInputTest : public ::testing::Test {
 protected:
  NvmeBadInputTest() : live_(kDiskBytes) {}
  ~NvmeBadInputTest() override {
    EXPECT_EQ(live_.rig().Finish(), 0) << "the service ends as it should";
  }

  static Command Admin(AdminOpcode opcode, uint64_t prp1 = 0,
                       uint32_t cdw10 = 0, uint32_t cdw11 = 0) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.prp1 = prp1;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    return command;
  }
  static Command Io(IoOpcode opcode, uint64_t slba, uint32_t blocks) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    command.prp1 = kBuffer;
    command.prp2 = kList;
    command.cdw10 = static_cast<uint32_t>(slba);
    command.cdw12 = blocks - 1;
    return command;
  }
  static Status StatusOf(const Completion& completion) {
    return static_cast<Status>(completion.status >> 1 & 0x7ff);
  }
  Status RunAdmin(const Command& command) { return live_.RunAdmin(command); }
  Status Run(const Command& command) { return live_.Run(command); }

  // Queue pair 1 of the test's own making, with doorbells in registers.
  Status CreateCq(uint32_t entries, uint64_t at, uint32_t flags = 1) {
    return RunAdmin(Admin(AdminOpcode::kCreateCompletionQueue, at,
                          1 | (entries - 1) << 16, flags));
  }
  Status CreateSq(uint32_t entries, uint64_t at, uint32_t flags = 1) {
    return RunAdmin(Admin(AdminOpcode::kCreateSubmissionQueue, at,
                          1 | (entries - 1) << 16, flags | 1 << 16));
  }
  void CreateOwnQueues(uint32_t entries) {
    std::memset(live_.rig().ram_base() + kSq, 0, 0x20000);
    ASSERT_EQ(CreateCq(entries, kCq), Status::kSuccess);
    ASSERT_EQ(CreateSq(entries, kSq), Status::kSuccess);
  }
  void RingTail(uint32_t value) {
    live_.rig().Write(0, kDoorbells + 8, 4, value);
  }
  void RingHead(uint32_t value) {
    live_.rig().Write(0, kDoorbells + 12, 4, value);
  }
  void Put(uint32_t slot, const Command& command) {
    std::memcpy(live_.rig().ram_base() + kSq + slot * sizeof command, &command,
                sizeof command);
  }
  // Waits for the completion in that slot of the own queue.
  std::optional<Completion> Get(uint32_t slot, uint32_t phase) {
    Completion completion;
    uint8_t* const at = live_.rig().ram_base() + kCq + slot * sizeof completion;
    for (int i = 0; i < 2000; ++i) {
      const uint32_t last = __atomic_load_n(
          reinterpret_cast<uint32_t*>(at + 12), __ATOMIC_ACQUIRE);
      if ((last >> 16 & 1) == phase) {
        std::memcpy(&completion, at, sizeof completion);
        return completion;
      }
      usleep(1000);
    }
    return std::nullopt;
  }

  uint32_t csts() {
    return static_cast<uint32_t>(live_.rig().Read(0, kCsts, 4));
  }
  bool Fatal() {
    for (int i = 0; i < 1000; ++i) {
      if ((csts() & kCstsFatal) != 0) return true;
      usleep(1000);
    }
    return false;
  }
  void ExpectHealthyAfterReset() {
    live_.driver().Disable();
    live_.driver().Enable();
    live_.driver().CreateQueues(false);
    EXPECT_EQ(Run(Io(IoOpcode::kRead, 0, 1)), Status::kSuccess);
    EXPECT_EQ(csts(), kCstsReady);
    live_.driver().Disable();
    live_.driver().Enable();
  }

  LiveController live_;
};

// §4.3: the last entry of a list's page leads to the next one; here to the list
// itself, whose entries are all the list as well.
TEST_F(NvmeBadInputTest, PrpListsThatLoopEndWithTheData) {
  live_.driver().CreateQueues(false);
  for (unsigned i = 0; i < 512; ++i) {
    const Le64 entry = kList;
    std::memcpy(live_.rig().ram_base() + kList + 8 * i, &entry, sizeof entry);
  }
  for (const uint64_t start : {kList, kList + 4088, kList + 4080}) {
    Command command = Io(IoOpcode::kWrite, 0, 2048);  // 1 MiB
    command.prp2 = start;
    EXPECT_EQ(Run(command), Status::kSuccess) << start;
    command = Io(IoOpcode::kCompare, 0, 2048);
    command.prp2 = start;
    EXPECT_EQ(Run(command), Status::kSuccess) << start;
  }
  Command command = Io(IoOpcode::kRead, 0, 2048);  // over its own list
  EXPECT_EQ(Run(command), Status::kSuccess);
  ExpectHealthyAfterReset();
}

TEST_F(NvmeBadInputTest, PrpListsOutsideRamAndCrookedOnesGetTheirStatus) {
  live_.driver().CreateQueues(false);
  const auto read = [this](uint64_t prp1, uint64_t prp2) {
    Command command = Io(IoOpcode::kRead, 0, 64);
    command.prp1 = prp1;
    command.prp2 = prp2;
    return Run(command);
  };
  EXPECT_EQ(read(kBuffer, kHoleAt), Status::kDataTransferError);
  const Le64 hole = kRamBytes;  // where the list would go on
  std::memcpy(live_.rig().ram_base() + kRamBytes - 8, &hole, sizeof hole);
  EXPECT_EQ(read(kBuffer, kRamBytes - 8), Status::kDataTransferError);
  EXPECT_EQ(read(kBuffer, kList + 4), Status::kPrpOffsetInvalid);
  EXPECT_EQ(read(kBuffer + 2, kList), Status::kPrpOffsetInvalid);
  EXPECT_EQ(read(kHoleAt, kList), Status::kDataTransferError);
  const Le64 crooked = kBuffer + 512;
  std::memcpy(live_.rig().ram_base() + kList, &crooked, sizeof crooked);
  EXPECT_EQ(read(kBuffer, kList), Status::kPrpOffsetInvalid);
  ExpectHealthyAfterReset();
}

// §4.4: segments that lead to themselves and bring no data.
TEST_F(NvmeBadInputTest, SglSegmentsThatLoopEndWithTheirNumber) {
  live_.driver().CreateQueues(false);
  const auto put = [this](unsigned index, uint64_t address, uint32_t length,
                          uint8_t type) {
    SglDescriptor descriptor = {};
    descriptor.address = address;
    descriptor.length = length;
    descriptor.type = type;
    std::memcpy(live_.rig().ram_base() + kList + index * sizeof descriptor,
                &descriptor, sizeof descriptor);
  };
  const auto run = [this](uint32_t length, uint8_t type) {
    Command command = Io(IoOpcode::kWrite, 0, 8);
    command.flags = 1 << 6;
    SglDescriptor first = {};
    first.address = kList;
    first.length = length;
    first.type = type;
    std::memcpy(reinterpret_cast<char*>(&command) + kAtPrp1, &first,
                sizeof first);
    return Run(command);
  };
  put(0, kBuffer, 0, kSglDataBlock);
  put(1, kList, 32, kSglSegment);
  EXPECT_EQ(run(32, kSglSegment), Status::kInvalidSglCount);
  put(0, kList, 16, kSglSegment);
  EXPECT_EQ(run(16, kSglSegment), Status::kInvalidSglCount);
  // The longest segment of nothing.
  std::memset(live_.rig().ram_base() + kList, 0, 1 << 20);
  EXPECT_EQ(run(1 << 20, kSglLastSegment), Status::kInvalidSglCount);
  EXPECT_EQ(run(0, kSglSegment), Status::kInvalidSglSegment);
  EXPECT_EQ(run(17, kSglSegment), Status::kInvalidSglSegment);
  put(0, kHoleAt, 4096, kSglDataBlock);
  EXPECT_EQ(run(16, kSglLastSegment), Status::kDataTransferError);
  put(0, kBuffer, 4095, kSglDataBlock);
  EXPECT_EQ(run(16, kSglLastSegment), Status::kDataSglLengthInvalid);
  ExpectHealthyAfterReset();
}

// §3.1.24: a tail that goes back says that the ring is nearly full; what stands
// in it is carried out, once for each completion that has room.
TEST_F(NvmeBadInputTest, DoorbellsThatRunBackwardsEndWithTheCompletionQueue) {
  CreateOwnQueues(16);
  for (uint32_t i = 0; i < 16; ++i) Put(i, Io(IoOpcode::kRead, 0, 1));
  RingTail(4);
  ASSERT_TRUE(Get(3, 1).has_value());
  RingHead(4);
  RingTail(2);  // fourteen more
  ASSERT_TRUE(Get(15, 1).has_value());
  ASSERT_TRUE(Get(1, 0).has_value());
  EXPECT_EQ(live_.rig().Statistics()["nvme_commands"], 4u + 14u);
  // Nobody reaps: one more fits, then none, however often the bell rings.
  for (uint32_t tail = 16; tail-- > 0;) RingTail(tail);
  EXPECT_EQ(live_.rig().Ping(), OK);
  EXPECT_LE(live_.rig().Statistics()["nvme_commands"], 4u + 14u + 1u);
  ExpectHealthyAfterReset();
}

// §5.2, figure 146: values and registers that there are not are reported.
TEST_F(NvmeBadInputTest, ImpossibleDoorbellsRaiseAnErrorEvent) {
  struct Bell {
    uint64_t offset;
    uint32_t value;
    uint8_t information;
  };
  for (const Bell& bell : {Bell{8, 16, kEventInvalidDoorbellValue},
                           Bell{8, 0xffffffff, kEventInvalidDoorbellValue},
                           Bell{12, 16, kEventInvalidDoorbellValue},
                           // More than was posted, hence backwards.
                           Bell{12, 5, kEventInvalidDoorbellValue},
                           Bell{8 * 7, 1, kEventInvalidDoorbell},
                           Bell{8 * 64 + 4, 1, kEventInvalidDoorbell},
                           Bell{0xff8, 1, kEventInvalidDoorbell}}) {
    SCOPED_TRACE(bell.offset);
    CreateOwnQueues(16);
    const uint32_t slot = 2;  // after the two creations
    const Command request = Admin(AdminOpcode::kAsynchronousEventRequest);
    std::memcpy(live_.rig().ram_base() + 0x1000 + slot * sizeof request,
                &request, sizeof request);
    live_.rig().Write(0, kDoorbells, 4, slot + 1);
    live_.rig().Write(0, kDoorbells + bell.offset, 4, bell.value);
    uint32_t* const phase = reinterpret_cast<uint32_t*>(
        live_.rig().ram_base() + 0x2000 + slot * sizeof(Completion) + 12);
    for (int i = 0; i < 1000 && (*phase >> 16 & 1) == 0; ++i)
      live_.rig().Ping();
    Completion event;
    std::memcpy(&event, live_.rig().ram_base() + 0x2000 + slot * sizeof event,
                sizeof event);
    EXPECT_EQ(event.result, uint32_t{bell.information} << 8 | 1u << 16);
    ExpectHealthyAfterReset();
  }
}

// The same through Doorbell Buffer Config, where values are read from memory.
TEST_F(NvmeBadInputTest, DoorbellsInMemoryThatRunBackwardsDoNoHarm) {
  constexpr uint64_t kShadow = 0x3000;
  for (const uint32_t value : {FrameDriver::kEntries, 0xffffffffu, 1u, 0u}) {
    live_.driver().CreateQueues(false);
    for (int i = 0; i < 8; ++i) Run(Io(IoOpcode::kRead, 0, 1));
    std::memcpy(live_.rig().ram_base() + kShadow + 8, &value, sizeof value);
    std::memcpy(live_.rig().ram_base() + kShadow + 12, &value, sizeof value);
    RingTail(3);
    EXPECT_EQ(live_.rig().Ping(), OK);
    EXPECT_LE(live_.rig().Statistics()["nvme_commands"],
              5 * FrameDriver::kEntries);
    ExpectHealthyAfterReset();
  }
}

// An open case of other controllers: queues beyond those that there can be.
TEST_F(NvmeBadInputTest, AbortOfQueuesThatDoNotExistIsAnInvalidField) {
  for (const uint32_t sq : {1u, 64u, 65u, 66u, 1000u, 0xffffu}) {
    EXPECT_EQ(RunAdmin(Admin(AdminOpcode::kAbort, 0, sq | 5u << 16)),
              Status::kInvalidField)
        << sq;
  }
  ExpectHealthyAfterReset();
}

// §5.3, §5.4: sizes are zeroes-based; any from 2 entries on is good.
TEST_F(NvmeBadInputTest, QueuesOfOneEntryAreRefusedAndOfThreeWork) {
  EXPECT_EQ(CreateCq(1, kCq), Status::kInvalidQueueSize);
  EXPECT_EQ(CreateCq(1025, kCq), Status::kInvalidQueueSize);
  EXPECT_EQ(CreateCq(65536, kCq), Status::kInvalidQueueSize);
  CreateOwnQueues(3);
  for (uint32_t i = 0; i < 20; ++i) {
    Put(i % 3, Io(IoOpcode::kRead, i, 1));
    RingTail((i + 1) % 3);
    const auto done = Get(i % 3, i / 3 % 2 == 0 ? 1 : 0);
    ASSERT_TRUE(done.has_value()) << i;
    EXPECT_EQ(StatusOf(*done), Status::kSuccess);
    RingHead((i + 1) % 3);
  }
  ExpectHealthyAfterReset();
}

TEST_F(NvmeBadInputTest, UnalignedQueuesAreRefused) {
  for (const uint64_t skew : {4u, 64u, 2048u}) {
    EXPECT_EQ(CreateCq(16, kCq + skew), Status::kPrpOffsetInvalid);
  }
  ASSERT_EQ(CreateCq(16, kCq), Status::kSuccess);
  EXPECT_EQ(CreateSq(16, kSq + 64), Status::kPrpOffsetInvalid);
  EXPECT_EQ(CreateSq(16, kSq, /*flags=*/0), Status::kInvalidField)
      << "not contiguous";
  ExpectHealthyAfterReset();
}

// §9.5: what cannot be reported in a completion is a fatal status.
TEST_F(NvmeBadInputTest, QueuesOutsideRamAreFatalWhenUsedAndAResetHeals) {
  for (const uint64_t at : {kHoleAt, kRamBytes, ~uint64_t{0} - 4095}) {
    SCOPED_TRACE(at);
    ASSERT_EQ(CreateCq(16, kCq), Status::kSuccess);
    ASSERT_EQ(CreateSq(16, at), Status::kSuccess);
    RingTail(1);
    EXPECT_TRUE(Fatal());
    ExpectHealthyAfterReset();

    ASSERT_EQ(CreateCq(16, at), Status::kSuccess);
    ASSERT_EQ(CreateSq(16, kSq), Status::kSuccess);
    Put(0, Io(IoOpcode::kRead, 0, 1));
    RingTail(1);
    EXPECT_TRUE(Fatal());
    ExpectHealthyAfterReset();

    live_.driver().Disable();
    live_.rig().Write(0, kAsq, 8, at);
    live_.rig().Write(0, kCc, 4, 0x00460001);
    live_.rig().Write(0, kDoorbells, 4, 1);
    EXPECT_TRUE(Fatal());
    ExpectHealthyAfterReset();
  }
}

// CVE-2023-40360 and its like: commands that this controller does not claim.
TEST_F(NvmeBadInputTest, UnclaimedCommandsAreInvalidOpcodes) {
  for (const uint8_t opcode : {0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x19, 0x1a,
                               0x1c, 0x1e, 0x80, 0x81, 0x82, 0x84, 0xff}) {
    Command command =
        Admin(static_cast<AdminOpcode>(opcode), kBuffer, 1023, 0x0201);
    command.nsid = 1;
    EXPECT_EQ(RunAdmin(command), Status::kInvalidOpcode) << int{opcode};
  }
  live_.driver().CreateQueues(false);
  // Copy, out of bounds; reservations; zone management; vendor specific.
  for (const uint8_t opcode : {0x19, 0x0d, 0x0e, 0x11, 0x15, 0x79, 0xff}) {
    EXPECT_EQ(Run(Io(static_cast<IoOpcode>(opcode), ~0u, 65536)),
              Status::kInvalidOpcode)
        << int{opcode};
  }
  ExpectHealthyAfterReset();
}

TEST_F(NvmeBadInputTest, RangesPastTheEndAreLbaOutOfRange) {
  live_.driver().CreateQueues(false);
  constexpr uint64_t kBlocks = kDiskBytes / 512;
  for (const IoOpcode opcode :
       {IoOpcode::kRead, IoOpcode::kWrite, IoOpcode::kCompare,
        IoOpcode::kVerify, IoOpcode::kWriteZeroes}) {
    Command command = Io(opcode, kBlocks - 1, 2);
    EXPECT_EQ(Run(command), Status::kLbaOutOfRange);
    command = Io(opcode, 0, 1);
    command.cdw10 = command.cdw11 = 0xffffffff;
    EXPECT_EQ(Run(command), Status::kLbaOutOfRange);
  }
  DatasetRange range = {};
  range.slba = ~uint64_t{0};
  range.blocks = ~uint32_t{0};
  std::memcpy(live_.rig().ram_base() + kBuffer, &range, sizeof range);
  Command command = Io(IoOpcode::kDatasetManagement, 0, 1);
  command.cdw10 = 0;
  command.cdw11 = 1u << 2;
  EXPECT_EQ(Run(command), Status::kLbaOutOfRange);
  ExpectHealthyAfterReset();
}

// An open case of others: CC.EN cleared, or the function reset, with transfers
// under way. The host has to fetch what is read, so they truly are; when the
// controller says that it is reset, none writes to memory any more.
TEST_F(NvmeBadInputTest, ResetWhileDmaIsUnderWayIsOverWhenTheControllerSaysSo) {
  const std::string data(kDiskBytes, 'd');
  ASSERT_EQ(pwrite(live_.disk_fd(), data.data(), kDiskBytes, 0),
            static_cast<ssize_t>(kDiskBytes));
  for (int round = 0; round < 12; ++round) {
    ASSERT_EQ(fdatasync(live_.disk_fd()), 0);
    posix_fadvise(live_.disk_fd(), 0, 0, POSIX_FADV_DONTNEED);
    live_.driver().CreateQueues(false);
    for (uint32_t i = 0; i < 64; ++i) {
      for (uint32_t page = 0; page < 15; ++page) {
        const Le64 entry = kBuffer + i * 65536ull + (page + 1) * 4096;
        std::memcpy(live_.rig().ram_base() + kList + i * 4096ull + 8 * page,
                    &entry, sizeof entry);
      }
      Command command = Io(IoOpcode::kRead, (i * 37 % 64) * 2048, 128);
      command.prp1 = kBuffer + i * 65536ull;
      command.prp2 = kList + i * 4096ull;
      command.cid = static_cast<uint16_t>(i);
      live_.driver().Push(command);
    }
    live_.driver().Ring();
    if (round % 2 == 0) {
      live_.driver().Disable();
    } else {
      ASSERT_EQ(live_.rig().Reset(), OK);
    }
    std::memset(live_.rig().ram_base() + kBuffer, 'g', 4 << 20);
    const timespec pause = {0, 20'000'000};
    nanosleep(&pause, nullptr);
    EXPECT_EQ(live_.rig().ram(kBuffer, 4 << 20), std::string(4 << 20, 'g'));
    live_.driver().Enable();
  }
  ExpectHealthyAfterReset();
}

}  // namespace
}  // namespace bulkhead::nvme

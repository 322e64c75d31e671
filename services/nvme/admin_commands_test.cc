// Admin commands, features, log pages and events.

#include "services/nvme/admin_commands.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

class NvmeAdminTest : public ::testing::Test {
 protected:
  NvmeAdminTest() : rig_({.block_bits = {9, 12}}) {}

  Status Run(const Command& command) {
    return StatusOf(rig_.Submit(0, command));
  }
  static Command CreateCq(uint32_t id, uint32_t entries,
                          uint64_t at = kQueuesAt, uint32_t flags = 3) {
    Command command = MakeCommand(AdminOpcode::kCreateCompletionQueue);
    command.prp1 = at;
    command.cdw10 = id | (entries - 1) << 16;
    command.cdw11 = flags;
    return command;
  }
  static Command CreateSq(uint32_t id, uint32_t entries, uint32_t cq,
                          uint64_t at = kQueuesAt + 0x10000,
                          uint32_t flags = 1) {
    Command command = MakeCommand(AdminOpcode::kCreateSubmissionQueue);
    command.prp1 = at;
    command.cdw10 = id | (entries - 1) << 16;
    command.cdw11 = flags | cq << 16;
    return command;
  }
  Status Delete(AdminOpcode opcode, uint32_t id) {
    Command command = MakeCommand(opcode);
    command.cdw10 = id;
    return Run(command);
  }

  ControllerRig rig_;
  std::string page_;
};

// ---- Identify, §5.15

TEST_F(NvmeAdminTest, IdentifiesTheControllerWithTheSerialOfTheDescription) {
  ASSERT_EQ(StatusOf(rig_.Identify(Cns::kController, 0, &page_)),
            Status::kSuccess);
  IdentifyController id;
  std::memcpy(&id, page_.data(), sizeof id);
  EXPECT_EQ(std::string(id.serial.data(), 20), "BH0001              ");
  EXPECT_EQ(id.nn, 2u);
  EXPECT_EQ(id.sqes, 0x66);
  EXPECT_EQ(id.cqes, 0x44);
  EXPECT_EQ(id.version, kVersion14);
  EXPECT_EQ(std::string(id.subnqn.data()).substr(0, 32),
            "nqn.2014-08.org.nvmexpress:uuid:");
  EXPECT_EQ(std::strlen(id.subnqn.data()), 32u + 36u);
}

TEST_F(NvmeAdminTest, NamespacesDifferInBlockSizeAndName) {
  std::set<std::string> names;
  for (const uint32_t nsid : {1u, 2u}) {
    ASSERT_EQ(StatusOf(rig_.Identify(Cns::kNamespace, nsid, &page_)),
              Status::kSuccess);
    IdentifyNamespace id;
    std::memcpy(&id, page_.data(), sizeof id);
    const unsigned bits = nsid == 1 ? 9 : 12;
    EXPECT_EQ(id.lbaf[0] >> 16, bits);
    EXPECT_EQ(id.nsze, (8u << 20) >> bits);
    EXPECT_EQ(id.flbas, 0);
    names.insert(std::string(id.nguid.begin(), id.nguid.end()));
    names.insert(std::string(id.eui64.begin(), id.eui64.end()));

    ASSERT_EQ(StatusOf(rig_.Identify(Cns::kNamespaceDescriptors, nsid, &page_)),
              Status::kSuccess);
    EXPECT_EQ(page_[0], 1);
    EXPECT_EQ(page_.substr(4, 8),
              std::string(id.eui64.begin(), id.eui64.end()));
  }
  EXPECT_EQ(names.size(), 4u);
}

TEST_F(NvmeAdminTest, ListsNamespacesAndControllers) {
  ASSERT_EQ(StatusOf(rig_.Identify(Cns::kActiveNamespaces, 0, &page_)),
            Status::kSuccess);
  EXPECT_EQ(page_.substr(0, 12), std::string("\1\0\0\0\2\0\0\0\0\0\0\0", 12));
  rig_.Identify(Cns::kAllocatedNamespaces, 1, &page_);
  EXPECT_EQ(page_.substr(0, 8), std::string("\2\0\0\0\0\0\0\0", 8));
  rig_.Identify(Cns::kActiveNamespaces, 2, &page_);
  EXPECT_EQ(page_, std::string(4096, '\0'));
  rig_.Identify(Cns::kAttachedControllers, 2, &page_);
  EXPECT_EQ(page_.substr(0, 4), std::string("\1\0\0\0", 4));

  EXPECT_EQ(StatusOf(rig_.Identify(Cns::kActiveNamespaces, 0xfffffffe, &page_)),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(StatusOf(rig_.Identify(Cns::kNamespace, 3, &page_)),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(StatusOf(rig_.Identify(static_cast<Cns>(0x55), 1, &page_)),
            Status::kInvalidField);
}

// ---- queues, §5.3 to §5.6

TEST_F(NvmeAdminTest, BadQueuesAreRefusedEachForItsReason) {
  EXPECT_EQ(Run(CreateCq(0, 16)), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Run(CreateCq(65, 16)), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Run(CreateCq(0xffff, 16)), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Run(CreateCq(1, 1)), Status::kInvalidQueueSize);
  EXPECT_EQ(Run(CreateCq(1, 1025)), Status::kInvalidQueueSize);
  EXPECT_EQ(Run(CreateCq(1, 16, kQueuesAt + 4)), Status::kPrpOffsetInvalid);
  EXPECT_EQ(Run(CreateCq(1, 16, kQueuesAt, 2)), Status::kInvalidField);
  EXPECT_EQ(Run(CreateCq(1, 16, kQueuesAt, 3 | kVectors << 16)),
            Status::kInvalidInterruptVector);
  EXPECT_EQ(Run(CreateSq(1, 16, 1)), Status::kCompletionQueueInvalid);
  ASSERT_EQ(Run(CreateCq(1, 16)), Status::kSuccess);
  EXPECT_EQ(Run(CreateCq(1, 16)), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Run(CreateSq(1, 16, 0)), Status::kCompletionQueueInvalid);
  EXPECT_EQ(Run(CreateSq(1, 1, 1)), Status::kInvalidQueueSize);
  ASSERT_EQ(Run(CreateSq(1, 16, 1)), Status::kSuccess);
  EXPECT_EQ(Run(CreateSq(1, 16, 1)), Status::kInvalidQueueIdentifier);

  EXPECT_EQ(Delete(AdminOpcode::kDeleteCompletionQueue, 1),
            Status::kInvalidQueueDeletion);
  EXPECT_EQ(Delete(AdminOpcode::kDeleteCompletionQueue, 0),
            Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Delete(AdminOpcode::kDeleteSubmissionQueue, 7),
            Status::kInvalidQueueIdentifier);
  EXPECT_EQ(Delete(AdminOpcode::kDeleteSubmissionQueue, 1), Status::kSuccess);
  EXPECT_EQ(Delete(AdminOpcode::kDeleteCompletionQueue, 1), Status::kSuccess);
}

TEST_F(NvmeAdminTest, SubmissionQueueIsDeletedWhenItsCommandsHaveEnded) {
  rig_.CreateIoQueuePair(1);
  rig_.disks[0]->Hold();
  rig_.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig_.Ring(1);
  rig_.Turns();
  Command command = MakeCommand(AdminOpcode::kDeleteSubmissionQueue);
  command.cdw10 = 1;
  rig_.Push(0, command);
  rig_.Ring(0);
  rig_.Turns();
  EXPECT_FALSE(rig_.Reap(0).has_value());

  rig_.disks[0]->ReleaseAll();
  rig_.Turns();
  EXPECT_TRUE(rig_.Reap(1).has_value());
  EXPECT_TRUE(rig_.Reap(0).has_value());
}

TEST_F(NvmeAdminTest, WithoutMsixThereIsOneVector) {
  ControllerRig rig({.start = false});
  rig.Enable();
  EXPECT_EQ(StatusOf(rig.Submit(0, CreateCq(1, 16, kQueuesAt, 3 | 1 << 16))),
            Status::kInvalidInterruptVector);
  EXPECT_EQ(StatusOf(rig.Submit(0, CreateCq(1, 16))), Status::kSuccess);
}

// ---- features, §5.13 and §5.21

TEST_F(NvmeAdminTest, FeaturesAreSetAndToldAndForgottenAtReset) {
  EXPECT_EQ(StatusOf(rig_.SetFeature(Feature::kVolatileWriteCache, 0)),
            Status::kSuccess);
  EXPECT_FALSE(rig_.disks[0]->write_cache());
  EXPECT_EQ(rig_.GetFeature(Feature::kVolatileWriteCache).result, 0u);
  EXPECT_EQ(rig_.GetFeature(Feature::kVolatileWriteCache, 0, 1).result, 1u)
      << "the default";
  EXPECT_EQ(rig_.GetFeature(Feature::kVolatileWriteCache, 0, 3).result, 4u)
      << "changeable";
  rig_.Disable();
  rig_.Enable();
  EXPECT_TRUE(rig_.disks[0]->write_cache());

  const Completion queues =
      rig_.SetFeature(Feature::kNumberOfQueues, 0x00ff0003);
  EXPECT_EQ(queues.result, 0x003f0003u);
  EXPECT_EQ(Run(CreateCq(5, 16)), Status::kSuccess);
  EXPECT_EQ(Run(CreateSq(5, 16, 5)), Status::kInvalidQueueIdentifier)
      << "more than agreed";
  EXPECT_EQ(StatusOf(rig_.SetFeature(Feature::kNumberOfQueues, 0)),
            Status::kCommandSequenceError);
}

TEST_F(NvmeAdminTest, BadFeaturesAreRefusedEachForItsReason) {
  const auto set = [this](uint32_t id, uint32_t value, uint32_t nsid = 0) {
    Command command = MakeCommand(AdminOpcode::kSetFeatures, nsid);
    command.cdw10 = id;
    command.cdw11 = value;
    return Run(command);
  };
  EXPECT_EQ(set(0x00, 0), Status::kInvalidField);
  EXPECT_EQ(set(0x0d, 1), Status::kInvalidField) << "host memory buffer";
  EXPECT_EQ(set(0x0f, 1000), Status::kInvalidField) << "keep alive";
  EXPECT_EQ(set(0x02, 1), Status::kInvalidField) << "one power state";
  EXPECT_EQ(set(0x07, 0xffff), Status::kInvalidField);
  EXPECT_EQ(set(0x09, 500), Status::kInvalidField) << "no such vector";
  EXPECT_EQ(set(0x80000006, 1), Status::kFeatureNotSaveable);
  EXPECT_EQ(set(0x06, 1, 1), Status::kFeatureNotNamespaceSpecific);
  EXPECT_EQ(StatusOf(rig_.GetFeature(static_cast<Feature>(0x0d))),
            Status::kInvalidField);
}

// ---- log pages, §5.14

TEST_F(NvmeAdminTest, LogPagesAnswerAndOthersAreInvalid) {
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kFirmwareSlot, 512, &page_)),
            Status::kSuccess);
  EXPECT_EQ(page_[0], 1);
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kChangedNamespaces, 4096, &page_)),
            Status::kSuccess);
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kCommandsSupported, 4096, &page_)),
            Status::kSuccess);
  EXPECT_EQ(page_[1024 + 4 * 2], 1) << "Read";
  EXPECT_EQ(page_[1024 + 4 * 0x19], 0) << "Copy";
  EXPECT_EQ(StatusOf(rig_.GetLog(static_cast<LogPage>(0x70), 64, &page_)),
            Status::kInvalidLogPage);
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kSmart, 64, &page_, 2)),
            Status::kInvalidField);
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kSmart, 64, &page_, 1024)),
            Status::kInvalidField);
  EXPECT_EQ(StatusOf(rig_.GetLog(LogPage::kSmart, 4096, &page_, 256)),
            Status::kSuccess);
  EXPECT_EQ(page_, std::string(4096, '\0')) << "zeroes past the end";
}

TEST_F(NvmeAdminTest, ErrorLogKeepsTheNewest64) {
  for (int i = 0; i < 70; ++i) Run(MakeCommand(static_cast<AdminOpcode>(0xcc)));
  rig_.GetLog(LogPage::kErrorInformation, 4096, &page_);
  ErrorLogEntry newest;
  ErrorLogEntry oldest;
  std::memcpy(&newest, page_.data(), 64);
  std::memcpy(&oldest, page_.data() + 63 * 64, 64);
  EXPECT_EQ(newest.error_count, 70u);
  EXPECT_EQ(oldest.error_count, 7u);
  EXPECT_EQ(newest.status >> 1, static_cast<int>(Status::kInvalidOpcode));
}

// ---- events, §5.2

TEST_F(NvmeAdminTest, TemperatureThresholdRaisesAnEventOnceUntilItIsRead) {
  rig_.SetFeature(Feature::kAsyncEvents, 0xff);
  rig_.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
  rig_.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
  rig_.Ring(0);
  rig_.Turns();
  EXPECT_FALSE(rig_.Reap(0).has_value());

  Command command = MakeCommand(AdminOpcode::kSetFeatures);
  command.cdw10 = static_cast<uint32_t>(Feature::kTemperatureThreshold);
  command.cdw11 = 300;
  rig_.Push(0, command);
  rig_.Ring(0);
  rig_.Turns();
  EXPECT_TRUE(rig_.Reap(0).has_value()) << "the command";
  const auto event = rig_.Reap(0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, 0x00020101u);

  EXPECT_EQ(StatusOf(rig_.Submit(0, command)), Status::kSuccess);
  EXPECT_FALSE(rig_.Reap(0).has_value()) << "not twice";
}

TEST_F(NvmeAdminTest, AFifthEventRequestIsTooManyAndAbortTakesOneBack) {
  uint16_t first = 0;
  for (int i = 0; i < 4; ++i) {
    const uint16_t cid =
        rig_.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
    if (i == 0) first = cid;
  }
  rig_.Ring(0);
  rig_.Turns();
  EXPECT_EQ(Run(MakeCommand(AdminOpcode::kAsynchronousEventRequest)),
            Status::kAsyncEventLimitExceeded);

  Command abort = MakeCommand(AdminOpcode::kAbort);
  abort.cdw10 = uint32_t{first} << 16;
  rig_.Push(0, abort);
  rig_.Ring(0);
  rig_.Turns();
  const auto aborted = rig_.Reap(0);
  ASSERT_TRUE(aborted.has_value());
  EXPECT_EQ(aborted->cid, first);
  EXPECT_EQ(StatusOf(*aborted), Status::kAbortRequested);
  const auto done = rig_.Reap(0);
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->result, 0u);
}

// §5.2, §5.14.1.4: a namespace that grows.
TEST_F(NvmeAdminTest, GrownNamespaceRaisesANoticeAndIsListedUntilItIsRead) {
  rig_.SetFeature(Feature::kAsyncEvents, kNamespaceAttributeNotices);
  rig_.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
  rig_.Ring(0);
  rig_.Turns();
  rig_.disks[1]->mutable_geometry().capacity_bytes = 16 << 20;
  rig_.Turns();
  const auto event = rig_.Reap(0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, 0x00040002u);

  ASSERT_EQ(StatusOf(rig_.Identify(Cns::kNamespace, 2, &page_)),
            Status::kSuccess);
  IdentifyNamespace id;
  std::memcpy(&id, page_.data(), sizeof id);
  EXPECT_EQ(id.nsze, (16u << 20) >> 12);

  rig_.GetLog(LogPage::kChangedNamespaces, 4096, &page_);
  EXPECT_EQ(page_.substr(0, 8), std::string("\2\0\0\0\0\0\0\0", 8));
  rig_.GetLog(LogPage::kChangedNamespaces, 4096, &page_);
  EXPECT_EQ(page_, std::string(4096, '\0'));
}

TEST_F(NvmeAdminTest, HostThatWantsNoNoticesFindsTheGrownNamespaceListed) {
  rig_.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
  rig_.Ring(0);
  rig_.disks[0]->mutable_geometry().capacity_bytes = 16 << 20;
  rig_.Turns();
  EXPECT_FALSE(rig_.Reap(0).has_value());
  rig_.GetLog(LogPage::kChangedNamespaces, 4096, &page_);
  EXPECT_EQ(page_.substr(0, 4), std::string("\1\0\0\0", 4));
}

// ---- what is not claimed

TEST_F(NvmeAdminTest, UnclaimedCommandsAreInvalid) {
  for (const int opcode : {0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x19, 0x1a, 0x1c,
                           0x1d, 0x1e, 0x80, 0x81, 0x82, 0x84}) {
    EXPECT_EQ(Run(MakeCommand(static_cast<AdminOpcode>(opcode), 1)),
              Status::kInvalidOpcode)
        << opcode;
  }
  Command command = MakeCommand(AdminOpcode::kIdentify);
  command.flags = 1 << 6;  // an SGL
  EXPECT_EQ(Run(command), Status::kInvalidField);
}

}  // namespace
}  // namespace bulkhead::nvme

// A recorded driver comes back: what it does to the real device is written
// down, cut into seeds, and done again by the fuzz target's driver. None of the
// three can change without the others.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "services/nvme/testing/fuzzed_driver.h"
#include "services/nvme/testing/live_controller.h"
#include "services/virtio_blk/testing/fuzzed_driver.h"
#include "services/virtio_blk/testing/live_device.h"
#include "tests/trace/recorder.h"

namespace bulkhead::testing {
namespace {

using block::Operation;
using Records = std::vector<scsi::MemoryBackend::Record>;

constexpr uint64_t kSector = 24;  // inside the small disks of the fuzz targets

// Of that operation on that sector.
bool Has(const Records& records, Operation operation, uint64_t length_bytes) {
  for (const auto& record : records) {
    if (record.operation == operation && record.length_bytes == length_bytes &&
        record.offset_bytes == kSector * 512) {
      return true;
    }
  }
  return false;
}

class TraceTest : public ::testing::Test {
 protected:
  TraceTest() : folder_(std::string(getenv("TEST_TMPDIR")) + "/seeds") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  FILE* Open(const std::string& name) {
    path_ = folder_ + "/../" + name + ".trace";
    return fopen(path_.c_str(), "w");
  }

  std::string Trace() const {
    std::ifstream file(path_);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  // The seeds by name.
  std::map<std::string, std::string> Cut(const std::string& device) {
    const std::string command =
        "tests/trace/seeds " + device + " " + path_ + " " + folder_;
    EXPECT_EQ(system(command.c_str()), 0) << command;
    std::map<std::string, std::string> seeds;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      std::ifstream file(entry.path(), std::ios::binary);
      seeds[entry.path().filename()] =
          std::string(std::istreambuf_iterator<char>(file), {});
    }
    return seeds;
  }

 private:
  const std::string folder_;
  std::string path_;
};

const uint8_t* Bytes(const std::string& seed) {
  return reinterpret_cast<const uint8_t*>(seed.data());
}

class VirtioBlkTraceTest : public TraceTest,
                           public ::testing::WithParamInterface<bool> {};

TEST_P(VirtioBlkTraceTest, RecordedDriverIsReplayedByTheFuzzTarget) {
  const std::string name = GetParam() ? "packed" : "split";
  FILE* const trace = Open(name);
  ASSERT_NE(trace, nullptr);
  {
    virtio_blk::LiveDevice live(
        {.in_process = true, .factory = RecordedVirtioBlk(trace)});
    ASSERT_TRUE(live.Boot(/*packed=*/GetParam()));
    EXPECT_EQ(live.Do(virtio_blk::kTypeOut, kSector, 4096),
              virtio_blk::kStatusOk);
    // The device's turns are written down now and then only.
    for (int i = 0; i < 16; ++i) {
      EXPECT_EQ(live.Do(virtio_blk::kTypeIn, kSector, 1024),
                virtio_blk::kStatusOk);
    }
    EXPECT_EQ(live.rig().Reset(), OK);
    EXPECT_EQ(live.rig().Finish(), 0);
  }
  fclose(trace);
  const std::map<std::string, std::string> seeds = Cut("virtio_blk");
  ASSERT_EQ(seeds.count(name + "_probe"), 1u);
  const std::string& probe = seeds.at(name + "_probe");
  const Records asked = virtio_blk::DriveFromInput(Bytes(probe), probe.size());
  EXPECT_TRUE(Has(asked, Operation::kWrite, 4096)) << Trace();
  EXPECT_TRUE(Has(asked, Operation::kRead, 1024)) << Trace();
}

INSTANTIATE_TEST_SUITE_P(Rings, VirtioBlkTraceTest, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "packed" : "split";
                         });

class NvmeTraceTest : public TraceTest,
                      public ::testing::WithParamInterface<bool> {};

TEST_P(NvmeTraceTest, RecordedDriverIsReplayedByTheFuzzTarget) {
  FILE* const trace = Open("nvme");
  ASSERT_NE(trace, nullptr);
  {
    nvme::LiveController live(
        {.in_process = true, .factory = RecordedNvme(trace)});
    live.driver().CreateQueues(/*interrupts=*/true, /*pairs=*/1,
                               /*one_vector=*/false, /*in_memory=*/GetParam());
    nvme::Command command = {};
    command.nsid = 1;
    command.prp1 = nvme::FrameDriver::kFreeRam;
    command.cdw10 = kSector;
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kWrite);
    EXPECT_EQ(live.Run(command), nvme::Status::kSuccess);
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kRead);
    command.cdw12 = 1;  // two blocks
    EXPECT_EQ(live.Run(command), nvme::Status::kSuccess);
    EXPECT_EQ(live.rig().Reset(), OK);
    EXPECT_EQ(live.rig().Finish(), 0);
  }
  fclose(trace);
  const std::map<std::string, std::string> seeds = Cut("nvme");
  ASSERT_EQ(seeds.count("nvme_probe"), 1u);
  const std::string& probe = seeds.at("nvme_probe");
  const Records asked = nvme::DriveFromInput(Bytes(probe), probe.size());
  EXPECT_TRUE(Has(asked, Operation::kWrite, 512)) << Trace();
  EXPECT_TRUE(Has(asked, Operation::kRead, 1024)) << Trace();
}

INSTANTIATE_TEST_SUITE_P(Doorbells, NvmeTraceTest, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "in_memory" : "in_registers";
                         });

}  // namespace
}  // namespace bulkhead::testing

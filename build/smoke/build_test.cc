#include <elf.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "build/smoke/described.pb.h"
#include "build/smoke/ping.pb.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace bulkhead::smoke {
namespace {

constexpr char kService[] = "build/smoke/static_service";

std::string OutputOf(const char* command) {
  std::string output;
  FILE* pipe = popen(command, "r");
  char buffer[256];
  while (pipe != nullptr && fgets(buffer, sizeof buffer, pipe) != nullptr) {
    output += buffer;
  }
  if (pipe != nullptr) pclose(pipe);
  return output;
}

TEST(BuildTest, LiteMessageCrossesFoldersAndRoundTrips) {
  Ping ping;
  ping.mutable_stamp()->set_sequence(7);
  ping.set_payload("hi");
  Ping back;
  ASSERT_TRUE(back.ParseFromString(ping.SerializeAsString()));
  EXPECT_EQ(back.stamp().sequence(), 7u);
  EXPECT_EQ(back.payload(), "hi");
}

TEST(BuildTest, FullMessageInTheSameProgramReadsText) {
  Described described;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString("name: 'lsi0'",
                                                            &described));
  EXPECT_EQ(described.name(), "lsi0");
}

TEST(BuildTest, SystemLibrariesAreLinked) {
  absl::flat_hash_map<int, int> map = {{1, 2}};
  EXPECT_EQ(map.at(1), 2);
  EXPECT_EQ(absl::StrCat(absl::NotFoundError("x").message()), "x");
  EXPECT_EQ(nlohmann::json::parse("{\"a\": [1, 2]}")["a"].size(), 2u);
}

TEST(BuildTest, ServiceRunsWithAllItsLibraries) {
  EXPECT_EQ(OutputOf(kService), "rules=0 bytes=4 nop=1 qcow=1 zlib=1 zstd=1\n");
}

// A service is executed from a file descriptor inside an empty root, so it can
// neither have an interpreter nor a fixed address.
TEST(BuildTest, ServiceIsStaticAndPositionIndependent) {
#ifdef BULKHEAD_SANITIZED
  GTEST_SKIP() << "a sanitizer's runtime is not linked statically";
#endif
  std::ifstream file(kService, std::ios::binary);
  std::string head(4096, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  EXPECT_EQ(header.e_type, ET_DYN);
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, &head[header.e_phoff + i * sizeof segment],
                sizeof segment);
    EXPECT_NE(segment.p_type, static_cast<Elf64_Word>(PT_INTERP));
  }
}

}  // namespace
}  // namespace bulkhead::smoke

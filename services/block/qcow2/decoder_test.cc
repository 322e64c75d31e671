// libqcow behind its gate: right clusters, and nothing but clusters.

#include "services/block/qcow2/decoder.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "services/block/memory_file.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kAt = 12345;  // an odd place, as writers choose them

std::string Text(size_t bytes, int seed) {
  std::string text;
  while (text.size() < bytes) text += std::to_string(text.size() * seed) + " ";
  text.resize(bytes);
  return text;
}

// Raw deflate with a 4 KiB window, as the format has it.
std::string Deflate(const std::string& from, int level = 6) {
  std::string to(from.size() * 2 + 64, 0);
  z_stream stream = {};
  deflateInit2(&stream, level, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  to.resize(stream.total_out);
  deflateEnd(&stream);
  return to;
}

class DecoderTest : public ::testing::Test {
 protected:
  DecoderTest()
      : disk_(std::make_shared<MemoryDisk>()),
        file_(disk_),
        coding_{.cluster_bits = 16, .disk_bytes = 1 << 30},
        decoder_(Decoder::MemoryFor(coding_)) {}

  void Put(const std::string& coded) {
    disk_->bytes = std::string(kAt, 'x') + coded + std::string(700, 'y');
  }
  // Whole sectors, as an L2 entry counts them: with what follows the stream.
  static uint64_t InSectors(const std::string& coded) {
    return (kAt + coded.size() + 511) / 512 * 512 - kAt;
  }
  int Inflate(const std::string& coded, std::string* cluster) {
    Put(coded);
    cluster->assign(size_t{1} << coding_.cluster_bits, '?');
    return decoder_.Inflate(coding_, file_, kAt, InSectors(coded),
                            reinterpret_cast<uint8_t*>(cluster->data()));
  }

  std::shared_ptr<MemoryDisk> disk_;
  MemoryFile file_;
  Coding coding_;
  Decoder decoder_;
};

TEST_F(DecoderTest, CompressedClustersOfEverySizeAreInflated) {
  for (unsigned bits = 9; bits <= 21; ++bits) {
    coding_ = {.cluster_bits = bits, .disk_bytes = 1 << 30};
    Decoder decoder(Decoder::MemoryFor(coding_));
    for (int seed = 1; seed < 4; ++seed) {
      const std::string text = Text(size_t{1} << bits, seed);
      const std::string coded = Deflate(text);
      Put(coded);
      std::string cluster(text.size(), '?');
      ASSERT_EQ(decoder.Inflate(coding_, file_, kAt, InSectors(coded),
                                reinterpret_cast<uint8_t*>(cluster.data())),
                0)
          << bits;
      EXPECT_TRUE(cluster == text) << bits;
    }
  }
}

// What deflate could not make smaller is longer than the cluster.
TEST_F(DecoderTest, StreamLongerThanTheClusterIsInflated) {
  const std::string text = Text(1 << 16, 7);
  std::string cluster;
  EXPECT_EQ(Inflate(Deflate(text, /*level=*/0), &cluster), 0);
  EXPECT_TRUE(cluster == text);
}

// libqcow itself would hand out what its buffer held before.
TEST_F(DecoderTest, StreamThatEndsBeforeTheClusterIsRefused) {
  std::string cluster;
  ASSERT_EQ(Inflate(Deflate(Text(1 << 16, 3)), &cluster), 0);
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{65535}}) {
    EXPECT_EQ(Inflate(Deflate(Text(bytes, 3)), &cluster), -EBADMSG) << bytes;
  }
}

// QEMU asks for a full cluster only, not for the stream's end.
TEST_F(DecoderTest, StreamThatGoesOnBehindTheClusterIsTaken) {
  const std::string text = Text(70000, 5);
  std::string cluster;
  EXPECT_EQ(Inflate(Deflate(text), &cluster), 0);
  EXPECT_TRUE(cluster == text.substr(0, 1 << 16));
}

TEST_F(DecoderTest, GarbageIsRefusedAndTheNextClusterIsRight) {
  std::string cluster;
  const std::string text = Text(1 << 16, 9);
  for (int i = 0; i < 50; ++i) {
    std::string coded = Deflate(text);
    for (size_t at = 5 + i; at < coded.size(); at += 97) coded[at] ^= 0x5a;
    Inflate(coded, &cluster);  // whatever it says
    EXPECT_EQ(Inflate(std::string(3000, '\xff'), &cluster), -EBADMSG);
    ASSERT_EQ(Inflate(Deflate(text), &cluster), 0);
    ASSERT_TRUE(cluster == text);
  }
}

TEST_F(DecoderTest, ErrorOfTheFileIsTold) {
  std::string cluster;
  const std::string coded = Deflate(Text(1 << 16, 2));
  disk_->read_error = EIO;
  EXPECT_EQ(Inflate(coded, &cluster), -EIO);
  disk_->read_error = 0;
  EXPECT_EQ(Inflate(coded, &cluster), 0);
}

// The gate's memory is all there is, however long it goes on.
TEST_F(DecoderTest, ThousandsOfClustersOfAllLengthsFitTheSameMemory) {
  std::string cluster;
  for (int i = 0; i < 800; ++i) {
    std::string text = Text(1 << 16, 1);
    for (size_t at = 0; at < static_cast<size_t>(i) * 75; ++at) {
      text[at] = static_cast<char>(at * at * 31 + i);
    }
    ASSERT_EQ(Inflate(Deflate(text, i % 10), &cluster), 0) << i;
    ASSERT_TRUE(cluster == text) << i;
  }
}

TEST_F(DecoderTest, TooLittleMemoryIsAnErrorNotACrash) {
  const std::string coded = Deflate(Text(1 << 16, 2));
  Put(coded);
  std::string cluster(1 << 16, '?');
  for (size_t memory = 16; memory < (1 << 20); memory *= 2) {
    Decoder small(memory);
    const int error = small.Inflate(coding_, file_, kAt, InSectors(coded),
                                    reinterpret_cast<uint8_t*>(cluster.data()));
    EXPECT_TRUE(error == 0 || error == -ENOMEM) << memory << ": " << error;
  }
}

}  // namespace
}  // namespace bulkhead::block::qcow2

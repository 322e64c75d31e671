// Images made by qemu-img with every option it has, in combinations that bring
// each two of a kind together; read, changed at random and closed by our
// engine, and then judged by qemu-img: refcounts and contents.

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/block/qcow2/model.h"
#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr unsigned kThreads = 4;

enum class Parents { kNone, kRaw, kLonger, kChain };

struct Combination {
  unsigned cluster_bits = 16;
  unsigned refcount_bits = 16;
  bool version_2 = false;
  bool lazy = false;
  bool extended = false;
  bool zstd = false;
  bool compressed = false;
  bool snapshot = false;
  bool bitmap = false;
  bool resized = false;
  const char* preallocation = "off";
  Parents parents = Parents::kNone;
  unsigned workers = 0;
};

// Every cluster size four times, the other options turning at rates of their
// own.
std::vector<Combination> AllCombinations() {
  static constexpr const char* kPreallocations[] = {"off", "metadata", "falloc",
                                                    "off", "full"};
  std::vector<Combination> all;
  for (unsigned i = 0; i < 4 * 13; ++i) {
    Combination c;
    c.cluster_bits = 9 + i % 13;
    c.refcount_bits = 1u << i % 7;
    c.version_2 = i % 9 == 4;
    c.parents = static_cast<Parents>(i / 13 == 0 ? 0 : i % 4);
    c.workers = i % 3;
    c.resized = i % 5 == 3;
    c.bitmap = i % 4 == 1 && !c.version_2;
    c.compressed = i % 6 == 2 && c.parents == Parents::kNone;
    c.zstd = i % 11 == 7 && !c.version_2;
    c.extended = c.cluster_bits >= 14 && i % 3 != 0 && !c.version_2;
    c.lazy = i % 7 == 3 && !c.version_2;
    if (c.version_2) c.refcount_bits = 16;
    c.snapshot = i % 3 == 1 && c.refcount_bits > 1 && !c.resized;
    if (c.parents == Parents::kNone && !c.compressed) {
      c.preallocation = kPreallocations[i % 5];
    }
    all.push_back(c);
  }
  return all;
}

std::string OptionsOf(const Combination& c) {
  std::string options = absl::StrCat(
      "cluster_size=", 1u << c.cluster_bits, ",preallocation=", c.preallocation,
      c.version_2 ? ",compat=0.10" : ",compat=1.1");
  if (c.version_2) return options;
  absl::StrAppend(&options, ",refcount_bits=", c.refcount_bits);
  if (c.lazy) options += ",lazy_refcounts=on";
  if (c.extended) options += ",extended_l2=on";
  if (c.zstd) options += ",compression_type=zstd";
  return options;
}

const std::vector<std::string> kFill = {
    "write -P 1 0 600k", "write -P 2 1000k 3k", "write -P 3 1537k 200k"};

// The image, and its parents behind it.
std::vector<ChainMember> MakeChain(const Combination& c,
                                   const ImageDirectory& images,
                                   uint64_t size) {
  const std::string path = images.Path("disk.qcow2");
  const std::string base = images.Path("base");
  const std::string create = "create -q -f qcow2 -o " + OptionsOf(c) + " ";
  if (c.parents == Parents::kNone) {
    if (!c.compressed) {
      QemuImg(create + path + " " + std::to_string(size));
      QemuIo(path, kFill);
      return {{path}};
    }
    QemuImg("create -q -f qcow2 " + base + " " + std::to_string(size));
    QemuIo(base, kFill);
    QemuImg("convert -q -c -f qcow2 -O qcow2 -o " + OptionsOf(c) + " " + base +
            " " + path);
    return {{path}};
  }
  if (c.parents == Parents::kRaw) {
    std::ofstream(base, std::ios::binary) << Pattern(9, 0, 1234567);
    QemuImg(create + "-F raw -b " + base + " " + path + " " +
            std::to_string(size));
    return {{path}, {base, /*is_qcow2=*/false}};
  }
  const uint64_t longer =
      c.parents == Parents::kLonger ? size + 999424 : 900608;
  QemuImg("create -q -f qcow2 -o cluster_size=8k " + base + " " +
          std::to_string(longer));
  QemuIo(base, {"write -P 7 0 700k", "write -P 8 800k 60k"});
  if (c.parents == Parents::kLonger) {
    QemuImg(create + "-F qcow2 -b " + base + " " + path + " " +
            std::to_string(size));
    return {{path}, {base}};
  }
  const std::string middle = images.Path("middle");
  QemuImg("create -q -f qcow2 -o extended_l2=on -F qcow2 -b " + base + " " +
          middle + " 2M");
  QemuIo(middle,
         {"write -P 9 3k 2k", "write -z 500k 300k", "write -P 10 1900k 40k"});
  QemuImg(create + "-F qcow2 -b " + middle + " " + path + " " +
          std::to_string(size));
  return {{path}, {middle}, {base}};
}

void Try(const Combination& c, unsigned number) {
  SCOPED_TRACE(absl::StrCat("number ", number, ": ", OptionsOf(c)));
  const ImageDirectory images;
  const uint64_t size = (3 << 20) + number % 3 * 1536;
  const std::vector<ChainMember> chain = MakeChain(c, images, size);
  const std::string& path = chain[0].path;
  if (c.snapshot) {
    QemuImg("snapshot -c before " + path);
    QemuIo(path, {"write -P 4 300k 100k", "discard 64k 128k"});
  }
  const std::string before = ContentByQemu(path);
  if (c.bitmap) QemuImg("bitmap --add " + path + " changes");
  if (c.resized) QemuImg("resize -q -f qcow2 " + path + " 5M");
  std::string content = ContentByQemu(path);
  for (uint64_t round = 0; round < 2; ++round) {
    Rig rig = OpenDisk(chain, {.workers = c.workers});
    ASSERT_TRUE(Content(rig) == content) << "round " << round;
    Model model(&rig, content, number * 10 + round);
    model.Run(80, 6);
    content = model.content();
    rig.Close();
    // Bitmaps that are called outdated leave their clusters behind.
    ASSERT_EQ(c.bitmap ? CorruptionComplaint(path) : CheckComplaint(path), "")
        << "round " << round;
    ASSERT_TRUE(ContentByQemu(path) == content) << "round " << round;
  }
  if (!c.snapshot) return;
  // What the snapshot kept is there.
  const std::string kept = images.Path("kept");
  QemuImg("convert -q -f qcow2 -l snapshot.name=before -O qcow2 " + path + " " +
          kept);
  Rig rig = OpenDisk(chain, {});
  EXPECT_TRUE(Content(rig) == content);
  EXPECT_TRUE(ContentByQemu(kept).substr(2 << 20) == before.substr(2 << 20));
}

TEST(MatrixTest, EveryOptionOfQemuImgIsReadAndWrittenAlike) {
  const std::vector<Combination> all = AllCombinations();
  std::atomic<unsigned> next{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (unsigned i; (i = next++) < all.size();) Try(all[i], i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace bulkhead::block::qcow2

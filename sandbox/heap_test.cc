#include "sandbox/heap.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace bulkhead::sandbox {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BULKHEAD_FOREIGN_MALLOC 1
#endif

TEST(HeapTest, AfterTheReserveNothingIsAskedOfTheKernel) {
#ifdef BULKHEAD_FOREIGN_MALLOC
  GTEST_SKIP() << "the sanitizer has a heap of its own";
#endif
  constexpr size_t kReserve = 8 << 20;
  ConfigureHeap();
  ASSERT_TRUE(ReserveHeap(kReserve));
  void* const end_before = sbrk(0);
  const size_t mapped_before = mallinfo2().hblkhd;
  const size_t arenas_before = mallinfo2().arena;

  // Large blocks, small blocks, out of order, and from another thread.
  const auto churn = [] {
    std::vector<void*> blocks;
    blocks.reserve(2000);
    for (size_t round = 0; round < 20; ++round) {
      for (size_t i = 0; i < 1000; ++i) {
        blocks.push_back(std::malloc(16 + (i * 37) % 2000));
      }
      blocks.push_back(std::malloc(3 << 20));
      for (size_t i = 0; i < blocks.size(); i += 2) std::free(blocks[i]);
      for (size_t i = 1; i < blocks.size(); i += 2) std::free(blocks[i]);
      blocks.clear();
    }
  };
  churn();
  std::thread(churn).join();

  EXPECT_EQ(sbrk(0), end_before);
  EXPECT_EQ(mallinfo2().hblkhd, mapped_before);
  EXPECT_EQ(mallinfo2().arena, arenas_before);
}

}  // namespace
}  // namespace bulkhead::sandbox

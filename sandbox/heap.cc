#include "sandbox/heap.h"

#include <malloc.h>

#include <climits>
#include <cstdlib>

namespace bulkhead::sandbox {

void ConfigureHeap() {
  mallopt(M_ARENA_MAX, 1);             // threads have no heap of their own
  mallopt(M_MMAP_MAX, 0);              // no block is a mapping of its own
  mallopt(M_TRIM_THRESHOLD, INT_MAX);  // free never gives memory back
  mallopt(M_TOP_PAD, 0);  // calloc leaves alone only what is new to the heap
}

bool ReserveHeap(size_t size_bytes) {
  void* block = std::malloc(size_bytes);
  // Keeps the pair of calls from being optimised away.
  asm volatile("" : : "r"(block) : "memory");
  if (block == nullptr) return false;
  std::free(block);
  return true;
}

}  // namespace bulkhead::sandbox

// ReserveHeap makes malloc independent of the kernel for the rest of the
// process's life: all threads share one heap, nothing is given back, and enough
// is kept free that the heap need not grow. A steady filter then has neither
// mmap nor brk.
//
// The reserve costs address space only: its pages are not touched.
//
// TRUST    Nothing.
// ERRORS   false: the kernel gives no such heap (RLIMIT_DATA, RLIMIT_AS).
// THREADS  Call ConfigureHeap first of all, ReserveHeap right before the
//          lock-down. Under a sanitizer both do nothing.

#ifndef BULKHEAD_SANDBOX_HEAP_H_
#define BULKHEAD_SANDBOX_HEAP_H_

#include <cstddef>

namespace bulkhead::sandbox {

void ConfigureHeap();
bool ReserveHeap(size_t size_bytes);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_HEAP_H_

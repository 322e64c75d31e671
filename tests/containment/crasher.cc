// A program that breaks in one of the ways in which programs break, in the
// steady state of a jail.
//
//   crasher POLICY write|pwritev2 WAY
//
// The second says how that policy lets last words be written, as each program's
// main does.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <exception>
#include <vector>

#include "policy/registry.h"
#include "sandbox/heap.h"
#include "sandbox/last_words.h"
#include "sandbox/lock_down.h"

// What the assert macro calls, in builds that have it.
extern "C" [[noreturn]] void AssertFail(const char*, const char*, unsigned,
                                        const char*) asm("__assert_fail");

namespace {

// Unknown to the compiler, so that nothing is computed or refused early.
volatile size_t many = 1 << 20;
char* volatile pointer = nullptr;

__attribute__((noinline)) void SmashTheStack() {
  char small[8] = "";
  char* byte = small;
  asm volatile("" : "+r"(byte));  // it may point anywhere
  for (size_t i = 0; i < 64; ++i) *byte++ = 'A';
}

void OverrunABuffer() {
  static char source[64];
  memset(source, 'A', sizeof(source) - 1);
  char small[8];
  strcpy(small, source + (many == 0 ? 60 : 0));  // NOLINT: the point
  asm volatile("" : : "r"(small) : "memory");
}

void FreeTwice() {
  void* block = malloc(4000);
  void* again = block;
  asm volatile("" : "+r"(block), "+r"(again));  // they may differ
  free(block);
  free(again);
}

void UseUpTheHeap() {
  for (;;) pointer = new char[many];
}

// A sanitizer that looks first would make another crash of it.
__attribute__((no_sanitize("undefined"))) void WriteToNull() { *pointer = 1; }

struct Way {
  const char* name;
  void (*run)();
};

const Way kWays[] = {
    {"abort", [] { abort(); }},
    {"assert", [] { AssertFail("2 < 1", "crasher.cc", __LINE__, __func__); }},
    {"stack", SmashTheStack},
    {"buffer", OverrunABuffer},
    {"free_twice", FreeTwice},
    {"no_memory", UseUpTheHeap},
    {"terminate", [] { std::terminate(); }},
    {"null", WriteToNull},
    {"trap", [] { __builtin_trap(); }},
    {"exit", [] { exit(3); }},
    {"quick_exit", [] { _exit(4); }},
    {"return", [] {}},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 99;
  const bulkhead::sandbox::CompiledPolicy* policy =
      bulkhead::policy::FindPolicy(argv[1]);
  if (policy == nullptr) return 96;
  if (strcmp(argv[2], "write") == 0) {
    bulkhead::sandbox::SetLastWordsWriter(
        bulkhead::sandbox::WriteLastWordsByWrite);
  }
  bulkhead::sandbox::ConfigureHeap();
  if (!bulkhead::sandbox::ReserveHeap(8 << 20)) return 98;
  atexit([] { pointer = nullptr; });
  if (!bulkhead::sandbox::LockDown(*policy).ok()) return 97;
  for (const Way& way : kWays) {
    if (strcmp(way.name, argv[3]) == 0) way.run();
  }
  return 5;
}

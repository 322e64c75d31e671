// A program as others build them, with the C library's own ways of breaking, in
// a jail with a tree: what QEMU and the image tools are.
//
//   stock_crasher WAY

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern "C" [[noreturn]] void AssertFail(const char*, const char*, unsigned,
                                        const char*) asm("__assert_fail");

namespace {

char* volatile pointer = nullptr;
volatile size_t many = size_t{1} << 46;

__attribute__((noinline)) void SmashTheStack() {
  char small[8] = "";
  char* byte = small;
  asm volatile("" : "+r"(byte));  // it may point anywhere
  for (size_t i = 0; i < 64; ++i) *byte++ = 'A';
}

void FreeTwice() {
  void* block = malloc(4000);
  void* again = block;
  asm volatile("" : "+r"(block), "+r"(again));  // they may differ
  free(block);
  free(again);
}

// As glib does it. At once: QEMU's policies bound no address space, so there is
// no way to the end of it that spares the host.
void AskForTooMuch() {
  pointer = static_cast<char*>(malloc(many));
  if (pointer == nullptr) abort();
}

// A sanitizer that looks first would make another crash of it.
__attribute__((no_sanitize("undefined"))) void WriteToNull() { *pointer = 1; }

struct Way {
  const char* name;
  void (*run)();
};

const Way kWays[] = {
    {"abort", [] { abort(); }},
    {"abort_in_a_thread",
     [] {
       pthread_t thread;
       pthread_create(
           &thread, nullptr, [](void*) -> void* { abort(); }, nullptr);
       pthread_join(thread, nullptr);
     }},
    {"assert", [] { AssertFail("2 < 1", "crasher.cc", __LINE__, __func__); }},
    {"stack", SmashTheStack},
    {"free_twice", FreeTwice},
    {"no_memory", AskForTooMuch},
    {"null", WriteToNull},
    {"trap", [] { __builtin_trap(); }},
    {"exit", [] { exit(3); }},
    {"quick_exit", [] { _exit(4); }},
    {"return", [] {}},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 99;
  atexit([] { pointer = nullptr; });
  for (const Way& way : kWays) {
    if (strcmp(way.name, argv[1]) == 0) way.run();
  }
  return 5;
}

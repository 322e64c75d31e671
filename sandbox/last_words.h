// LastWords is how a jailed program ends when it finds itself broken. libc's
// own way (abort, assert, a smashed stack, a spoiled heap, no memory for `new`)
// opens the terminal, prints with calls that no policy grants, blocks signals
// and sends itself one: the filter would kill it for that, and the launcher
// would report a violation that is none.
//
// Linking this library replaces those functions: one line goes to the log, with
// the one call that the policy has for it, and then an illegal instruction ends
// the process. That needs no system call, cannot be caught or ignored, and is
// the same in every build.
//
// TRUST    The process may be in any state: nothing is allocated or locked.
// ERRORS   None is left to report.
// THREADS  Any thread; the first one that gets here ends all.

#ifndef BULKHEAD_SANDBOX_LAST_WORDS_H_
#define BULKHEAD_SANDBOX_LAST_WORDS_H_

#include <cstddef>

namespace bulkhead::sandbox {

// How the policy lets a line be written to fd 2. Default: pwritev2 at offset
// -1.
using LineWriter = void (*)(const char* line, size_t size_bytes);
void SetLastWordsWriter(LineWriter writer);
// With write instead.
void WriteLastWordsByWrite(const char* line, size_t size_bytes);

// "fatal: WHAT: DETAIL". `detail` may be null.
[[noreturn]] void Die(const char* what, const char* detail = nullptr);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_LAST_WORDS_H_

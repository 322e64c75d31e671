// Symbol names a place in a program's file, as people who read a violation want
// it: "bulkhead::QcowOpen()+0x41".
//
// TRUST    The program is ours, yet every offset in it is checked: a wrong file
//          gives no name, never a read outside of it.
// ERRORS   "": no symbol covers the place (a stripped program has none).
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SANDBOX_SYMBOLS_H_
#define BULKHEAD_SANDBOX_SYMBOLS_H_

#include <cstdint>
#include <string>

namespace bulkhead::sandbox {

// `file_offset` is where the code lies in the ELF file that `fd` is open for.
std::string Symbol(int fd, uint64_t file_offset);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_SYMBOLS_H_

// How many arguments a system call takes on x86_64: the registers behind them
// hold whatever the program left there.
//
// TRUST    Constant data.
// ERRORS   6 for a call that no policy names.
// THREADS  Safe.

#ifndef BULKHEAD_POLICY_ARGUMENT_COUNT_H_
#define BULKHEAD_POLICY_ARGUMENT_COUNT_H_

#include <string>

namespace bulkhead::policy {

int ArgumentCount(const std::string& syscall);

// False: it is one of those that ArgumentCount says 6 of for want of a better
// answer.
bool KnowsArgumentCount(const std::string& syscall);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_ARGUMENT_COUNT_H_

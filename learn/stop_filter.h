// StopFilter is what stands in a launch filter's place when one learns: every
// call stops the process, for the learner to look at.
//
// TRUST    None needed: constants.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_LEARN_STOP_FILTER_H_
#define BULKHEAD_LEARN_STOP_FILTER_H_

#include <linux/filter.h>
#include <linux/seccomp.h>

namespace bulkhead::learn {

inline constexpr sock_filter kStopAtEachCall[] = {
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE)};

}  // namespace bulkhead::learn

#endif  // BULKHEAD_LEARN_STOP_FILTER_H_

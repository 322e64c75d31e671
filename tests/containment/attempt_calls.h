// What the attempts are written with: calls made by number, so that no library
// stands between, and names of what there is to reach.
//
// THREADS  One.

#ifndef BULKHEAD_TESTS_CONTAINMENT_ATTEMPT_CALLS_H_
#define BULKHEAD_TESTS_CONTAINMENT_ATTEMPT_CALLS_H_

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/containment/attempts.h"

namespace bulkhead::containment {

using S = Surroundings;

inline constexpr Jailed kKilled = Jailed::kKilled;
inline constexpr Jailed kRefused = Jailed::kRefused;
inline constexpr Jailed kBounded = Jailed::kBounded;
inline constexpr Free kDone = Free::kDone;
inline constexpr Free kReached = Free::kReached;

alignas(4096) extern char scratch[64 * 1024];

inline iovec Scratch(size_t size) { return {scratch, size}; }

inline long Raw(long number, long a = 0, long b = 0, long c = 0, long d = 0,
                long e = 0, long f = 0) {
  return syscall(number, a, b, c, d, e, f);
}

template <typename T>
long P(T* pointer) {
  return reinterpret_cast<long>(pointer);
}

// Through the i386 interface.
long Int80(long number, long first);

// A path in the folder of the surroundings; a file of the sibling's in /proc.
// They live where no allocation is needed after the lock-down.
char* In(const S& s, const char* name);
char* ProcOf(const S& s, const char* name);

socklen_t UnixAddress(const char* name, bool abstract, sockaddr_un* address);
long ConnectUnix(const char* name, bool abstract);
long ConnectTcp(const S& s, int type);

template <int family, int type>
long SocketOf(const S&) {
  return Raw(SYS_socket, family, type, 0);
}

template <long flag>
long Unshare(const S&) {
  return Raw(SYS_unshare, flag);
}

// An fd that a taken-over neighbour hands over on the control channel.
long TakeFd();
long SendFd(int socket, int fd);

// By what they are after.
const std::vector<Attempt>& Files();
const std::vector<Attempt>& Sockets();
const std::vector<Attempt>& Processes();
const std::vector<Attempt>& Memory();
const std::vector<Attempt>& Kernel();
const std::vector<Attempt>& Privileges();
const std::vector<Attempt>& Exhaustion();

}  // namespace bulkhead::containment

#endif  // BULKHEAD_TESTS_CONTAINMENT_ATTEMPT_CALLS_H_

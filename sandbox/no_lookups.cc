// The lookups of names and accounts that libraries bring along: libnbd could
// resolve a host, libcap-ng an account. A jailed program does neither, since it
// is handed sockets and ids, and glibc's own code for it opens files and loads
// modules. These stand in their place and answer "cannot": so a static program
// is smaller by all of glibc's resolver, and the linker has nothing to warn of.

#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>

// A sanitizer's runtime has its own of these, and is linked dynamically.
#ifndef BULKHEAD_SANITIZED

extern "C" {

int getaddrinfo(const char* /*node*/, const char* /*service*/,
                const addrinfo* /*hints*/, addrinfo** result) {
  *result = nullptr;
  return EAI_FAIL;
}

void freeaddrinfo(addrinfo* /*result*/) noexcept {}

int getnameinfo(const sockaddr* /*address*/, socklen_t /*size*/, char* /*host*/,
                socklen_t /*host_size*/, char* /*service*/,
                socklen_t /*service_size*/, int /*flags*/) {
  return EAI_FAIL;
}

passwd* getpwuid(uid_t /*uid*/) {
  errno = ENOENT;
  return nullptr;
}

int getlogin_r(char* /*name*/, size_t /*size*/) { return ENXIO; }

int initgroups(const char* /*user*/, gid_t /*group*/) {
  errno = EPERM;
  return -1;
}

}  // extern "C"

#endif  // BULKHEAD_SANITIZED

#include "vm/resources.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

Fd TakeName(const std::string& name) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  return fd;
}

TEST(ResourcesTest, UsersSocketIsMadeWithoutAWord) {
  Resources resources;
  EXPECT_EQ(resources.MakeUserSocket("web1"), "");
  EXPECT_GE(resources.user_socket(), 0);
}

// Any user of the host may do that.
TEST(ResourcesTest, UsersSocketWhoseNameAnotherHasTakenIsTold) {
  const std::string name = absl::StrCat("bulkhead/web2/", getpid());
  const Fd taken = TakeName(name);
  Resources resources;
  EXPECT_EQ(resources.MakeUserSocket("web2"),
            absl::StrCat("@", name,
                         ": another process has taken this name; "
                         "//policy:audit and //tools/grow_disk cannot reach "
                         "this VM (started again, it has another name)"));
  EXPECT_EQ(resources.user_socket(), -1);
}

}  // namespace
}  // namespace bulkhead::vm

// Two VMs that root starts must not share an id outside: one could signal the
// other's processes, were it not for the namespaces.

#include "vm/ids.h"

#include <stdlib.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

class IdsTest : public testing::Test {
 protected:
  IdBlock Reserve() {
    absl::StatusOr<IdBlock> block = ReserveIds(1000000, file_);
    EXPECT_TRUE(block.ok()) << block.status();
    return *std::move(block);
  }
  const std::string file_ = std::string(getenv("TEST_TMPDIR")) + "/ids";
};

TEST_F(IdsTest, VmsThatRunAtTheSameTimeHaveIdsOfTheirOwn) {
  const IdBlock one = Reserve();
  const IdBlock two = Reserve();
  EXPECT_EQ(one.first, 1000000u);
  EXPECT_EQ(two.first, one.first + kIdsOfOneVm);
}

TEST_F(IdsTest, BlockIsFreeWhenItsLastHolderIsGone) {
  std::optional<IdBlock> one = Reserve();
  const IdBlock two = Reserve();
  // The launcher has the fd over an exec; so has this copy.
  Fd launchers(dup(one->lock.get()));
  one.reset();
  EXPECT_EQ(Reserve().first, 1000000u + 2 * kIdsOfOneVm);
  launchers.Close();
  EXPECT_EQ(Reserve().first, 1000000u);
}

TEST_F(IdsTest, FileThatCannotBeMadeIsNamed) {
  const absl::StatusOr<IdBlock> block = ReserveIds(1, "/no/such/folder/ids");
  ASSERT_FALSE(block.ok());
  EXPECT_NE(block.status().message().find("/no/such/folder/ids"),
            std::string::npos);
}

}  // namespace
}  // namespace bulkhead::vm

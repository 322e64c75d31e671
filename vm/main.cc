#include <string>
#include <vector>

#include "vm/vm.h"

int main(int argc, char** argv) {
  return bulkhead::vm::RunVm(std::vector<std::string>(argv + 1, argv + argc));
}

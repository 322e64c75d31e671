#include <string>
#include <vector>

#include "launcher/vm.h"

int main(int argc, char** argv) {
  return bulkhead::launcher::RunVm(
      std::vector<std::string>(argv + 1, argv + argc));
}

// The whole of `vm`: from the command line to the exit status.

#ifndef BULKHEAD_LAUNCHER_VM_H_
#define BULKHEAD_LAUNCHER_VM_H_

#include <string>
#include <vector>

namespace bulkhead::launcher {

// `arguments` without the program's name.
int RunVm(const std::vector<std::string>& arguments);

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_VM_H_

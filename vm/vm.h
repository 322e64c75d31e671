// The whole of `vm`: it reads what its user wrote, looks at the host, opens and
// makes everything that the VM needs, and becomes the launcher.
//
// TRUST    Runs before anything hostile does, with the user's own rights, and
//          is gone by exec when the first process starts. Only --check
//          stays, for what the demo guest reports.
// ERRORS   Printed; the exit status (base/exit_code.h).
// THREADS  One.

#ifndef BULKHEAD_VM_VM_H_
#define BULKHEAD_VM_VM_H_

#include <string>
#include <vector>

namespace bulkhead::vm {

// `arguments` without the program's name.
int RunVm(const std::vector<std::string>& arguments);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_VM_H_

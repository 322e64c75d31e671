// Finds what was built with the launcher: services, the shim, the demo guest.
//
// TRUST    What was built with this program.
// ERRORS   An empty answer: it is not there.
// THREADS  Any.

#ifndef BULKHEAD_VM_RUNFILES_H_
#define BULKHEAD_VM_RUNFILES_H_

#include <map>
#include <string>

namespace bulkhead::vm {

// The path of a runfile ("proxy/shim"), or "" when it is nowhere.
std::string FindRunfile(const std::string& name);

// What ./bazelw found (tools/setup/README.md): "qemu_root", "qemu", ...
std::map<std::string, std::string> ReadRuntimePaths();

// The whole of a small file (at most 1 MiB); false: it cannot be read.
bool ReadFile(const std::string& path, std::string* text);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_RUNFILES_H_

// What /proc says of processes, as text.
//
// TRUST    A process may have chosen names in it: they are compared and shown,
//          never followed.
// ERRORS   An empty string or list; `readable` tells that from an empty file.
// THREADS  Safe.

#ifndef BULKHEAD_POLICY_PROC_FILES_H_
#define BULKHEAD_POLICY_PROC_FILES_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace bulkhead::policy {

std::string ReadFile(const std::string& path, bool* readable = nullptr);
std::vector<std::string> Lines(const std::string& text);
std::string ReadLink(const std::string& path);
// The names in a folder, but those that begin with a dot.
std::vector<std::string> Entries(const std::string& path, bool* readable);

// /proc/PID/status, by field.
std::map<std::string, std::string> StatusOf(pid_t pid);
// Processes that any thread of it has started and that still run.
std::vector<pid_t> ChildrenOf(pid_t pid);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_PROC_FILES_H_

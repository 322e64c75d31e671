// ViolationReport tells people and programs which call a process was killed
// for: what, where in its program, which rule came nearest, what to do.
//
// TRUST    The call's arguments are a hostile process's and come escaped.
// ERRORS   None.
// THREADS  One thread.

#ifndef BULKHEAD_CONSOLE_VIOLATION_REPORT_H_
#define BULKHEAD_CONSOLE_VIOLATION_REPORT_H_

#include <string>
#include <vector>

#include "proto/frame.pb.h"
#include "sandbox/violation.h"

namespace bulkhead::console {

// "bulkhead::QcowOpen()+0x41 (program+0x41c2)". `program_fd` is open for the
// program that the process was started from, if its inode is known.
std::string DescribePlace(const ConsoleConfig::Process& process, int program_fd,
                          const sandbox::Place& place);

struct ViolationReport {
  std::vector<std::string> lines;  // for the log
  std::string json;                // the same as one line of JSON
};

ViolationReport Report(const std::string& vm,
                       const ConsoleConfig::Process& process, int program_fd,
                       const sandbox::Violation& violation);

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_VIOLATION_REPORT_H_

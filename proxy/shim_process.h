// ShimProcess is the real shim program under its real steady filter, with the
// launcher's side of its fds. It is not in a jail: that is the launcher's part.
//
// ERRORS   Aborts: a test or a benchmark cannot go on without its shim.
// THREADS  One.

#ifndef BULKHEAD_PROXY_SHIM_PROCESS_H_
#define BULKHEAD_PROXY_SHIM_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "proto/channel.h"

namespace bulkhead::proxy {

class ShimProcess {
 public:
  // `config` lacks only the RAM's identity, which is taken from `ram_fd` if
  // that is not -1. `socket_path` is where QEMU will connect. `channel_fd` (the
  // caller's) is the shim's end of a channel; -1: one is made.
  ShimProcess(const std::string& program, const std::string& socket_path,
              const ShimConfig& config, int ram_fd = -1, int channel_fd = -1);
  // Closes the control channel, which ends the shim, and reaps it.
  ~ShimProcess();
  ShimProcess(const ShimProcess&) = delete;
  ShimProcess& operator=(const ShimProcess&) = delete;

  Channel& control() { return *control_; }
  // The service's end of the first channel; the caller owns it.
  int TakeServiceEnd();
  // Gives the shim a new channel; returns the service's end of it.
  int ReplaceChannel();
  pid_t pid() const { return pid_; }
  bool running() const;
  // Closes the control channel; the exit status, or -signal.
  int End();

 private:
  std::string socket_path_;
  pid_t pid_ = -1;
  int service_end_ = -1;
  std::unique_ptr<Channel> control_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SHIM_PROCESS_H_

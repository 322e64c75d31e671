// FilterSocket gives an auditor the filters of the VM's processes as the kernel
// has them. Only their tracer can read them back, and that is the launcher.
//
// `vm` has made the listener: the abstract socket "bulkhead/VM/PID/filters"
// (SOCK_SEQPACKET), which leaves nothing behind and which no jailed process can
// reach. Nothing is read from whoever connects; each process is one packet, a
// FilterReading, and then the end.
//
// TRUST    Only root and the launcher's own user are answered (SO_PEERCRED).
// ERRORS   None: without the socket the VM runs, and an audit says what it
//          could not read.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_FILTER_SOCKET_H_
#define BULKHEAD_LAUNCHER_FILTER_SOCKET_H_

#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "launcher/process.h"

namespace bulkhead::launcher {

class FilterSocket {
 public:
  // Takes `listener`; -1: there is none.
  FilterSocket(int listener, EventLoop* loop,
               const std::vector<std::unique_ptr<Process>>* processes);
  ~FilterSocket();
  FilterSocket(const FilterSocket&) = delete;
  FilterSocket& operator=(const FilterSocket&) = delete;

 private:
  void Answer();

  Fd listener_;
  EventLoop* const loop_;
  const std::vector<std::unique_ptr<Process>>* const processes_;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_FILTER_SOCKET_H_

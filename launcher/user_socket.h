// UserSocket is where a user asks something of a running VM: that a disk be
// longer, which the device's service does and answers; and, for an auditor, the
// filters of the VM's processes as the kernel has them, which only their tracer
// can read back, and that is the launcher.
//
// `vm` has made the listener: the abstract socket "bulkhead/VM/PID"
// (SOCK_SEQPACKET), which leaves nothing behind. A connection is one request,
// one packet, a UserRequest. It is answered with a Frame that has an Ack, or
// with one FilterReading for each process, and closed. Who connects takes the
// place of who has connected and not asked.
//
// TRUST    Only root and the launcher's own user are heard (SO_PEERCRED). Of a
//          VM's processes only a connector shares the network in which the name
//          is; it reads no hostile byte. The service checks a request for its
//          disk; its answer is handed on, never looked at.
// ERRORS   Told to who asked (UNKNOWN_REQUEST: no such device). Without the
//          socket the VM runs, and an audit says what it could not read.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_USER_SOCKET_H_
#define BULKHEAD_LAUNCHER_USER_SOCKET_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "launcher/process.h"

namespace bulkhead::launcher {

class UserSocket {
 public:
  // Takes `listener`; -1: there is none.
  UserSocket(int listener, EventLoop* loop,
             const std::vector<std::unique_ptr<Process>>* processes);
  ~UserSocket();
  UserSocket(const UserSocket&) = delete;
  UserSocket& operator=(const UserSocket&) = delete;

  // `process` has sent this Ack. One that answers another request than the
  // last is nobody's.
  void TakeAnswer(const Process* process, const Frame& answer);

 private:
  void Accept();
  void TakeRequest();
  // False: there is no such disk's service.
  bool AskService(const DiskRequest& request);
  void Answer(const Ack& ack);

  const Fd listener_;
  EventLoop* const loop_;
  const std::vector<std::unique_ptr<Process>>* const processes_;
  Fd peer_;   // has not asked yet
  Fd asker_;  // waits for a service's answer
  const Process* asked_ = nullptr;
  uint64_t asked_sequence_ = 0;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_USER_SOCKET_H_

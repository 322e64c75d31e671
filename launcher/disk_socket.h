// DiskSocket takes a user's wish that a disk of the running VM be longer, hands
// it to the device's service, and gives back its answer.
//
// `vm` has made the listener: the abstract socket "bulkhead/VM/PID/disks"
// (SOCK_SEQPACKET). A request is one packet, a DiskRequest; so is the answer, a
// Frame with an Ack. Who connects takes the place of who was there before.
//
// TRUST    Only root and the launcher's own user are heard (SO_PEERCRED). Of a
//          VM's processes only a connector shares the network in which the name
//          is; it reads no hostile byte. The service checks the request; its
//          answer is handed on, never looked at.
// ERRORS   Told to who asked (UNKNOWN_REQUEST: no such device). Without the
//          socket the VM runs.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_DISK_SOCKET_H_
#define BULKHEAD_LAUNCHER_DISK_SOCKET_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "launcher/process.h"

namespace bulkhead::launcher {

class DiskSocket {
 public:
  // Takes `listener`; -1: there is none.
  DiskSocket(int listener, EventLoop* loop,
             const std::vector<std::unique_ptr<Process>>* processes);
  ~DiskSocket();
  DiskSocket(const DiskSocket&) = delete;
  DiskSocket& operator=(const DiskSocket&) = delete;

  // `process` has sent this Ack. One that answers another request than the
  // last is nobody's.
  void TakeAnswer(const Process* process, const Frame& answer);

 private:
  void Accept();
  void TakeRequest();
  void Answer(const Ack& ack);
  void Forget();

  Fd listener_;
  Fd peer_;
  EventLoop* const loop_;
  const std::vector<std::unique_ptr<Process>>* const processes_;
  const Process* asked_ = nullptr;
  uint64_t asked_sequence_ = 0;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_DISK_SOCKET_H_

#include "launcher/disk_socket.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "launcher/may_ask.h"
#include "proto/launch.pb.h"

namespace bulkhead::launcher {
namespace {

// A service writes no file that is longer than its disks ask for
// (sandbox/jail.h, file_bytes): this one asks for more, with its metadata.
void LetFileGrow(pid_t pid, uint64_t size_bytes) {
  rlimit limit;
  if (prlimit(pid, RLIMIT_FSIZE, nullptr, &limit) != 0) return;
  const rlim_t room = limit.rlim_max - limit.rlim_cur;
  limit.rlim_cur += std::min<rlim_t>(size_bytes + size_bytes / 8, room);
  (void)prlimit(pid, RLIMIT_FSIZE, &limit, nullptr);
}

}  // namespace

DiskSocket::DiskSocket(int listener, EventLoop* loop,
                       const std::vector<std::unique_ptr<Process>>* processes)
    : listener_(listener), loop_(loop), processes_(processes) {
  if (!listener_.valid()) return;
  loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
}

DiskSocket::~DiskSocket() {
  Forget();
  if (listener_.valid()) loop_->Remove(listener_.get());
}

void DiskSocket::Accept() {
  Fd peer(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.valid() || !MayAsk(peer.get())) return;
  Forget();
  peer_ = std::move(peer);
  loop_->Add(peer_.get(), EPOLLIN, [this](uint32_t) { TakeRequest(); });
}

void DiskSocket::TakeRequest() {
  std::array<char, 4096> packet;
  const ssize_t size = recv(peer_.get(), packet.data(), packet.size(), 0);
  DiskRequest request;
  if (size <= 0 ||
      !request.ParseFromArray(packet.data(), static_cast<int>(size))) {
    return Forget();
  }
  for (const auto& process : *processes_) {
    if (process->role() != JailedProcess::SERVICE || !process->can_send() ||
        process->name() != request.process()) {
      continue;
    }
    LetFileGrow(process->pid(), request.grow_disk().size_bytes());
    *process->outgoing().mutable_grow_disk() = request.grow_disk();
    asked_ = process.get();
    asked_sequence_ = process->Send();
    if (asked_sequence_ != 0) return;
  }
  Ack unknown;
  unknown.set_error(UNKNOWN_REQUEST);
  Answer(unknown);
}

void DiskSocket::TakeAnswer(const Process* process, const Frame& answer) {
  if (process == asked_ && answer.in_reply_to() == asked_sequence_) {
    Answer(answer.ack());
  }
}

void DiskSocket::Answer(const Ack& ack) {
  if (!peer_.valid()) return;
  Frame frame;  // an Ack alone may be no bytes at all
  *frame.mutable_ack() = ack;
  const std::string packet = frame.SerializeAsString();
  (void)send(peer_.get(), packet.data(), packet.size(),
             MSG_DONTWAIT | MSG_NOSIGNAL);
  Forget();
}

void DiskSocket::Forget() {
  if (peer_.valid()) loop_->Remove(peer_.get());
  peer_.Close();
  asked_ = nullptr;
}

}  // namespace bulkhead::launcher

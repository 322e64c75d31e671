#include "launcher/user_socket.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "proto/launch.pb.h"
#include "sandbox/live_filters.h"

namespace bulkhead::launcher {
namespace {

// The kernel's word: is it root or our own user?
bool MayAsk(const Fd& peer) {
  ucred user = {};
  socklen_t size = sizeof(user);
  return getsockopt(peer.get(), SOL_SOCKET, SO_PEERCRED, &user, &size) == 0 &&
         (user.uid == 0 || user.uid == geteuid());
}

// Who does not read in time gets less.
void Send(const Fd& peer, const google::protobuf::MessageLite& message) {
  const std::string packet = message.SerializeAsString();
  (void)send(peer.get(), packet.data(), packet.size(),
             MSG_DONTWAIT | MSG_NOSIGNAL);
}

FilterReading Read(const Process& process) {
  FilterReading reading;
  reading.set_process(process.planned().name());
  reading.set_pid(process.planned().pid());
  reading.set_policy(process.planned().policy());
  std::vector<std::vector<sock_filter>> filters;
  reading.set_error(sandbox::ReadFilters(process.planned().pid(),
                                         /*detach=*/false, &filters));
  for (const std::vector<sock_filter>& filter : filters) {
    reading.add_filters(filter.data(), filter.size() * sizeof(sock_filter));
  }
  return reading;
}

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

UserSocket::UserSocket(int listener, EventLoop* loop,
                       const std::vector<std::unique_ptr<Process>>* processes)
    : listener_(listener), loop_(loop), processes_(processes) {
  loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
}

UserSocket::~UserSocket() {
  loop_->Remove(peer_.get());
  loop_->Remove(listener_.get());
}

void UserSocket::Accept() {
  Fd peer(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.valid() || !MayAsk(peer)) return;
  if (peer_.valid()) TakeRequest();  // it may just have asked
  peer_ = std::move(peer);
  loop_->Add(peer_.get(), EPOLLIN, [this](uint32_t) { TakeRequest(); });
}

void UserSocket::TakeRequest() {
  loop_->Remove(peer_.get());
  Fd peer = std::move(peer_);
  std::array<char, 4096> packet;
  const ssize_t size = recv(peer.get(), packet.data(), packet.size(), 0);
  UserRequest request;
  if (size <= 0 ||
      !request.ParseFromArray(packet.data(), static_cast<int>(size))) {
    return;
  }
  if (request.has_filters()) {
    for (const auto& process : *processes_) {
      if (!process->exited()) Send(peer, Read(*process));
    }
  } else {
    asker_ = std::move(peer);
    if (AskService(request.disk())) return;
    Ack unknown;
    unknown.set_error(UNKNOWN_REQUEST);
    Answer(unknown);
  }
}

bool UserSocket::AskService(const DiskRequest& request) {
  for (const auto& process : *processes_) {
    if (process->planned().role() != JailedProcess::SERVICE ||
        !process->can_send() ||
        process->planned().name() != request.process()) {
      continue;
    }
    LetFileGrow(process->planned().pid(), request.grow_disk().size_bytes());
    *process->outgoing().mutable_grow_disk() = request.grow_disk();
    asked_ = process.get();
    asked_sequence_ = process->Send();
    return asked_sequence_ != 0;
  }
  return false;
}

void UserSocket::TakeAnswer(const Process* process, const Frame& answer) {
  if (process == asked_ && answer.in_reply_to() == asked_sequence_) {
    Answer(answer.ack());
  }
}

void UserSocket::Answer(const Ack& ack) {
  Frame frame;  // an Ack alone may be no bytes at all
  *frame.mutable_ack() = ack;
  Send(asker_, frame);
  asker_.Close();
  asked_ = nullptr;
}

}  // namespace bulkhead::launcher

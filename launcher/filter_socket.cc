#include "launcher/filter_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "launcher/may_ask.h"
#include "proto/launch.pb.h"
#include "sandbox/live_filters.h"

namespace bulkhead::launcher {
namespace {

std::string Read(const Process& process) {
  FilterReading reading;
  reading.set_process(process.name());
  reading.set_pid(process.pid());
  reading.set_policy(process.policy());
  std::vector<std::vector<sock_filter>> filters;
  reading.set_error(
      sandbox::ReadFilters(process.pid(), /*detach=*/false, &filters));
  for (const std::vector<sock_filter>& filter : filters) {
    reading.add_filters(filter.data(), filter.size() * sizeof(sock_filter));
  }
  return reading.SerializeAsString();
}

}  // namespace

FilterSocket::FilterSocket(
    int listener, EventLoop* loop,
    const std::vector<std::unique_ptr<Process>>* processes)
    : listener_(listener), loop_(loop), processes_(processes) {
  if (!listener_.valid()) return;
  loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { Answer(); });
}

FilterSocket::~FilterSocket() {
  if (listener_.valid()) loop_->Remove(listener_.get());
}

void FilterSocket::Answer() {
  const Fd peer(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.valid() || !MayAsk(peer.get())) return;
  for (const auto& process : *processes_) {
    if (process->exited()) continue;
    const std::string reading = Read(*process);
    // Who does not read in time gets less.
    (void)send(peer.get(), reading.data(), reading.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

}  // namespace bulkhead::launcher

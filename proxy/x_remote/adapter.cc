#include "proxy/x_remote/adapter.h"

#include <poll.h>

#include <iterator>

namespace bulkhead::proxy {

void Adapter::Run() {
  while (!ended_) {
    pollfd entries[] = {{front_end_.fd(), POLLIN, 0},
                        {device_.fd(), POLLIN, 0},
                        {control_.fd(), POLLIN, 0}};
    const timespec at_once = {0, 0};
    ppoll(entries, std::size(entries),
          front_end_.HasMore() ? &at_once : nullptr, nullptr);
    if (entries[1].revents != 0) device_.Poll();
    if (entries[2].revents != 0) HandleControl();
    if (entries[0].revents != 0 || front_end_.HasMore()) front_end_.Serve();
    Report();
  }
}

void Adapter::Report() {
  if (device_.lost() && !reported_lost_) {
    reported_lost_ = true;
    control_.outgoing().mutable_service_lost()->set_message(device_.loss());
    SendControl();
  }
}

void Adapter::HandleControl() {
  Channel::Received received;
  if (!control_.Receive(/*wait=*/false, &received).ok()) {
    ended_ = true;
    return;
  }
  if (received == Channel::Received::kNothing) return;
  // The launcher asks an adapter nothing.
  control_.outgoing().set_in_reply_to(control_.incoming().sequence());
  control_.outgoing().mutable_ack()->set_error(UNKNOWN_REQUEST);
  SendControl();
}

void Adapter::SendControl() {
  const absl::Status status = control_.Send();
  // A launcher that does not read loses reports; one that is gone ends us.
  if (!status.ok() && !absl::IsResourceExhausted(status)) ended_ = true;
}

}  // namespace bulkhead::proxy

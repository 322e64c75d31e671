#include "proxy/x_remote/adapter.h"

#include <poll.h>

#include <iterator>
#include <utility>

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
  if (front_end_.connected() != reported_connected_) {
    reported_connected_ = front_end_.connected();
    control_.outgoing().mutable_front_end_state()->set_connected(
        reported_connected_);
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
  const Frame& request = control_.incoming();
  Frame& answer = control_.outgoing();
  answer.set_in_reply_to(request.sequence());
  if (request.body_case() == Frame::kGetStatistics) {
    const XRemoteCounters& counters = device_.counters();
    const std::pair<const char*, uint64_t> all[] = {
        {"loads", counters.loads},
        {"stores", counters.stores},
        {"missed_deadlines", counters.missed_deadlines},
        {"memory_tables", counters.memory_tables},
    };
    for (const auto& [name, value] : all) {
      Statistic* counter = answer.mutable_statistics()->add_counters();
      counter->set_name(name);
      counter->set_value(value);
    }
  } else {
    answer.mutable_ack()->set_error(
        request.body_case() == Frame::kPing ? OK : UNKNOWN_REQUEST);
  }
  SendControl();
}

void Adapter::SendControl() {
  const absl::Status status = control_.Send();
  // A launcher that does not read loses reports; one that is gone ends us.
  if (!status.ok() && !absl::IsResourceExhausted(status)) ended_ = true;
}

}  // namespace bulkhead::proxy

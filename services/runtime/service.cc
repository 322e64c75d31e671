#include "services/runtime/service.h"

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/channel.h"
#include "proto/service_config.pb.h"
#include "services/runtime/guest_memory.h"
#include "services/runtime/live_context.h"
#include "services/runtime/queue_threads.h"
#include "services/runtime/server.h"
#include "services/runtime/state_file.h"

namespace bulkhead {
namespace {

constexpr uint32_t kMaxSpinMicroseconds = 1000;

absl::Status Expect(Channel& control, Frame::BodyCase type, const char* name) {
  Channel::Received received;
  absl::Status status = control.Receive(/*wait=*/true, &received);
  if (!status.ok()) return status;
  if (control.incoming().body_case() != type) {
    return absl::DataLossError(
        absl::StrCat("the launcher did not send ", name));
  }
  return absl::OkStatus();
}

// Hello each way, then Configure.
absl::Status ReceiveConfig(Channel& control, ServiceConfig* config) {
  if (absl::Status status = Expect(control, Frame::kHello, "Hello");
      !status.ok()) {
    return status;
  }
  const uint32_t version = control.incoming().hello().version();
  Frame& answer = control.outgoing();
  answer.set_in_reply_to(control.incoming().sequence());
  answer.mutable_hello()->set_version(kProtocolVersion);
  if (absl::Status status = control.Send(); !status.ok()) return status;
  if (version != kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the launcher speaks version ", version,
                     " of the protocol, this service ", kProtocolVersion));
  }
  if (absl::Status status = Expect(control, Frame::kConfigure, "Configure");
      !status.ok()) {
    return status;
  }
  if (!config->ParseFromString(
          control.incoming().configure().service_config())) {
    return absl::DataLossError("the service's configuration does not parse");
  }
  if (config->polling().spin_limit_us() > kMaxSpinMicroseconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("polling.spin_limit_us: at most ", kMaxSpinMicroseconds));
  }
  return absl::OkStatus();
}

void SendFault(Channel& control, const absl::Status& status) {
  control.outgoing().Clear();
  control.outgoing().mutable_fault()->set_message(
      std::string(status.message()));
  control.Send().IgnoreError();
}

// For a device with queue groups; else nullptr.
absl::StatusOr<std::unique_ptr<QueueThreads>> StartThreads(
    Device& device, const LiveContext& context, bool park_at_end,
    Nanoseconds spin_limit) {
  QueueGroups* const queues = device.queue_groups();
  if (queues == nullptr || queues->groups() < 2) return nullptr;
  QueueThreads::Options options;
  options.park_at_end = park_at_end;
  // A CPU for each group that spins, and one for the guest.
  if (CpusOfThisProcess() > queues->groups()) options.spin_limit = spin_limit;
  options.watched.resize(queues->groups());
  for (const LiveContext::Watched& watched : context.watched()) {
    options.watched[watched.group].push_back(watched.fd);
  }
  return QueueThreads::Create(*queues, options);
}

absl::Status SetUpAndServe(const ServiceEnvironment& environment,
                           Channel& control, Channel& shim, const char* model,
                           const DeviceFactory& factory) {
  ServiceConfig config;
  if (absl::Status status = ReceiveConfig(control, &config); !status.ok()) {
    return status;
  }
  absl::StatusOr<GuestMemory> memory = GuestMemory::Create(
      environment.ram_fd, config.ram_bytes(),
      config.ram_is_plain_file() ? GuestMemory::Source::kPlainFile
                                 : GuestMemory::Source::kSealedMemfd);
  if (!memory.ok()) return memory.status();
  if (environment.own_process) memory->Seal();
  absl::StatusOr<std::unique_ptr<LiveContext>> context =
      LiveContext::Create(*std::move(memory), control, environment.log_fd);
  if (!context.ok()) return context.status();

  absl::StatusOr<std::unique_ptr<Device>> device = factory(config, **context);
  if (!device.ok()) return device.status();
  DeviceDescription description;
  (*device)->Describe(&description);
  if (absl::Status status = (*context)->Adopt(description); !status.ok()) {
    return status;
  }
  Server::Options options;
  options.model = model;
  const Nanoseconds spin_limit =
      Nanoseconds{config.polling().spin_limit_us()} * 1000;
  if (CpusOfThisProcess() > 1) options.spin_limit = spin_limit;
  absl::StatusOr<std::unique_ptr<QueueThreads>> threads =
      StartThreads(**device, **context, environment.own_process, spin_limit);
  if (!threads.ok()) return threads.status();
  options.threads = threads->get();
  Server server(**context, **device, shim, control, options);

  absl::Status status = environment.lock_down(config);
  if (!status.ok()) return status;
  control.outgoing().mutable_ready();
  status = control.Send();
  if (status.ok()) status = server.Serve();
  // Closes the images in good order, whatever ended the service. The launcher
  // hears of it afterwards.
  device->reset();
  if (environment.ended) {
    if (!status.ok()) SendFault(control, status);
    environment.ended(status);
  }
  return status;
}

}  // namespace

absl::Status RunService(const ServiceEnvironment& environment,
                        const char* model, const DeviceFactory& factory) {
  Channel control(environment.control_fd);
  Channel shim(environment.shim_fd);
  absl::Status status =
      SetUpAndServe(environment, control, shim, model, factory);
  if (!status.ok()) SendFault(control, status);
  return status;
}

}  // namespace bulkhead

#include "services/nvme/testing/live_controller.h"

#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "policy/nvme.h"
#include "proto/service_fds.h"
#include "services/nvme/make_device.h"

namespace bulkhead::nvme {
namespace {

Status StatusOf(const Completion& completion) {
  return static_cast<Status>(completion.status >> 1 & 0x7ff);
}

}  // namespace

LiveController::LiveController(const Setup& setup) {
  std::string name =
      std::string(getenv("TEST_TMPDIR")) + "/bulkhead-nvme-XXXXXX";
  disk_fd_ = mkstemp(name.data());
  if (disk_fd_ < 0 || unlink(name.c_str()) != 0 ||
      ftruncate(disk_fd_, static_cast<off_t>(setup.disk_bytes)) != 0) {
    abort();
  }
  ServiceConfig config;
  config.mutable_nvme()->set_serial("BH-TEST");
  config.mutable_nvme()->add_namespaces();
  config.mutable_nvme()->set_queue_threads(setup.queue_threads);
  config.mutable_polling()->set_spin_limit_us(setup.spin_limit_us);
  ImageFile* image = config.add_backends()->mutable_image();
  image->set_format(RAW);
  if (setup.in_process) {
    image->set_fd(disk_fd_);
    rig_ = FrameRig::InProcess(
        "nvme", setup.factory ? setup.factory : MakeDevice, config);
  } else {
    image->set_fd(kFirstBackendFd);
    rig_ = FrameRig::Spawn("services/nvme/service", policy::Nvme(), config,
                           {disk_fd_}, {});
  }
  driver_ = std::make_unique<FrameDriver>(*rig_);
  driver_->Enable();
}

LiveController::~LiveController() {
  driver_.reset();
  rig_.reset();
  close(disk_fd_);
}

Status LiveController::Run(const Command& command) {
  return StatusOf(driver_->Run(command));
}

Status LiveController::RunAdmin(const Command& command) {
  return StatusOf(driver_->Admin(command));
}

}  // namespace bulkhead::nvme

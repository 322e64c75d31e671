#include "services/runtime/testing/frame_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "proto/service_fds.h"

namespace bulkhead {
namespace {

constexpr int kPatienceMs = 10'000;
constexpr int kHighFd = 200;  // above everything that a service has

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "FrameRig: %s (errno %d)\n", why.c_str(), errno);
  std::abort();
}

int Memfd(const char* name, uint64_t size_bytes) {
  const int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) {
    Die("memfd");
  }
  return fd;
}

// In the child: puts each fd where service_fds.h says and executes the program.
[[noreturn]] void BecomeService(int program,
                                const sandbox::CompiledPolicy& policy,
                                std::vector<int> fds) {
  // Out of the way first, so that no dup2 overwrites a source.
  for (int& fd : fds) fd = fcntl(fd, F_DUPFD, kHighFd);
  program = fcntl(program, F_DUPFD_CLOEXEC, kHighFd);
  for (size_t i = 0; i < fds.size(); ++i) {
    dup2(fds[i], static_cast<int>(i));
  }
  dup3(program, sandbox::kProgramFd, O_CLOEXEC);
  const auto last = static_cast<unsigned>(fds.size());
  close_range(last, sandbox::kProgramFd - 1, 0);
  close_range(sandbox::kProgramFd + 1, ~0u, 0);

  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(120);
  const sock_fprog filter = {
      .len = static_cast<unsigned short>(policy.launch_filter.size()),
      .filter = const_cast<sock_filter*>(policy.launch_filter.data()),
  };
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
    _exit(121);
  }
  char name[] = "service";
  char* const arguments[] = {name, nullptr};
  char* const environment[] = {nullptr};
  syscall(SYS_execveat, sandbox::kProgramFd, "", arguments, environment,
          AT_EMPTY_PATH);
  _exit(122);
}

}  // namespace

FrameRig::FrameRig(ServiceConfig config, const Options& options)
    : config_(std::move(config)), options_(options) {
  config_.set_ram_bytes(options.ram_bytes);
  ram_fd_ = Memfd("ram", options.ram_bytes);
  fcntl(ram_fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
  ram_ = static_cast<uint8_t*>(mmap(nullptr, options.ram_bytes,
                                    PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd_,
                                    0));
  if (ram_ == MAP_FAILED) Die("mmap of RAM");
  int shim[2];
  int control[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, shim) != 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
    Die("socketpair");
  }
  shim_ = std::make_unique<Channel>(shim[0]);
  control_ = std::make_unique<Channel>(control[0]);
  service_shim_fd_ = shim[1];
  service_control_fd_ = control[1];
}

std::unique_ptr<FrameRig> FrameRig::InProcess(const char* model,
                                              DeviceFactory factory,
                                              ServiceConfig config,
                                              const Options& options) {
  std::unique_ptr<FrameRig> rig(new FrameRig(std::move(config), options));
  const ServiceEnvironment environment = {
      .shim_fd = rig->service_shim_fd_,
      .control_fd = rig->service_control_fd_,
      .ram_fd = rig->ram_fd_,
      .log_fd = STDERR_FILENO,
      .lock_down = [](const ServiceConfig&) { return absl::OkStatus(); },
  };
  FrameRig* self = rig.get();
  rig->thread_ =
      std::thread([self, environment, model, factory = std::move(factory)] {
        self->ended_ = RunService(environment, model, factory);
      });
  if (options.start && !rig->Start()) Die("fault: " + rig->fault_);
  return rig;
}

std::unique_ptr<FrameRig> FrameRig::InProcess(const char* model,
                                              DeviceFactory factory,
                                              ServiceConfig config) {
  return InProcess(model, std::move(factory), std::move(config), Options());
}

std::unique_ptr<FrameRig> FrameRig::Spawn(const std::string& program,
                                          const sandbox::CompiledPolicy& policy,
                                          ServiceConfig config,
                                          const std::vector<int>& backend_fds,
                                          const Options& options) {
  std::unique_ptr<FrameRig> rig(new FrameRig(std::move(config), options));
  const int program_fd = open(program.c_str(), O_RDONLY | O_CLOEXEC);
  if (program_fd < 0) Die("cannot open " + program);
  const int state_fd = Memfd("state", 1 << 20);
  std::vector<int> fds = {STDERR_FILENO,
                          STDERR_FILENO,
                          STDERR_FILENO,
                          rig->service_shim_fd_,
                          rig->service_control_fd_,
                          rig->ram_fd_,
                          state_fd};
  fds.insert(fds.end(), backend_fds.begin(), backend_fds.end());
  rig->pid_ = fork();
  if (rig->pid_ < 0) Die("fork");
  if (rig->pid_ == 0) BecomeService(program_fd, policy, fds);
  close(program_fd);
  close(state_fd);
  close(rig->service_shim_fd_);
  close(rig->service_control_fd_);
  if (options.start && !rig->Start()) Die("fault: " + rig->fault_);
  return rig;
}

FrameRig::~FrameRig() {
  if (!finished_) Finish();
  for (const auto& [vector, fd] : eventfds_) close(fd);
  for (const auto& [base, size_bytes] : shared_) munmap(base, size_bytes);
  munmap(ram_, options_.ram_bytes);
  close(ram_fd_);
}

bool FrameRig::Start() {
  control_->outgoing().mutable_hello()->set_version(kProtocolVersion);
  Send(*control_);
  *control_->outgoing().mutable_configure()->mutable_service_config() =
      config_.SerializeAsString();
  Send(*control_);
  for (;;) {
    if (!ReceiveWithin(*control_, kPatienceMs)) return false;
    if (control_->incoming().has_fault()) {
      fault_ = control_->incoming().fault().message();
      return false;
    }
    if (control_->incoming().has_ready()) break;
  }
  shim_->outgoing().mutable_hello()->set_version(kProtocolVersion);
  const uint64_t sequence = Send(*shim_);
  const Frame& answer = AwaitAnswer(*shim_, sequence);
  if (!answer.hello().has_device()) Die("Hello without a device");
  description_ = answer.hello().device();
  TakeSharedMemory();
  if (options_.attach) {
    if (Map(0, options_.ram_bytes, 0) != OK) Die("RAM is not mapped");
    if (description_.intx_pin() != 0 && Connect(INTX, 0) != OK) {
      Die("INTx is not connected");
    }
  }
  return true;
}

void FrameRig::TakeSharedMemory() {
  const size_t count = shim_->incoming_fds().size();
  for (size_t i = 0; i < count; ++i) {
    const int fd = shim_->TakeFd(i);
    struct stat info;
    if (fstat(fd, &info) != 0) Die("fstat of shared memory");
    const int seals = fcntl(fd, F_GET_SEALS);
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if ((seals & wanted) != wanted) Die("shared memory is not sealed");
    const auto size_bytes = static_cast<size_t>(info.st_size);
    // The shadow page is for reading; a doorbell is the guest's to write.
    const int access = i == 0 ? PROT_READ : PROT_READ | PROT_WRITE;
    void* base = mmap(nullptr, size_bytes, access, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) Die("mmap of shared memory");
    shared_.emplace_back(static_cast<uint8_t*>(base), size_bytes);
    close(fd);
  }
}

uint64_t FrameRig::Send(Channel& channel, const std::vector<int>& fds) {
  uint64_t sequence = 0;
  for (;;) {
    const absl::Status status = channel.Send(fds, &sequence);
    if (status.ok()) return sequence;
    if (!absl::IsResourceExhausted(status)) {
      Die("send: " + std::string(status.message()));
    }
    if (!channel.WaitToSend(kPatienceMs)) Die("the service does not read");
  }
}

bool FrameRig::ReceiveWithin(Channel& channel, int timeout_ms) {
  pollfd entry = {channel.fd(), POLLIN, 0};
  if (poll(&entry, 1, timeout_ms) <= 0) return false;
  Channel::Received received;
  const absl::Status status = channel.Receive(/*wait=*/true, &received);
  if (!status.ok()) Die("receive: " + std::string(status.message()));
  return true;
}

const Frame& FrameRig::AwaitAnswer(Channel& channel, uint64_t sequence) {
  for (;;) {
    if (!ReceiveWithin(channel, kPatienceMs)) Die("no answer");
    const Frame& frame = channel.incoming();
    if (frame.in_reply_to() == sequence) return frame;
    if (frame.in_reply_to() != 0) Die("an answer out of order");
    events_.push_back(frame);
  }
}

ErrorCode FrameRig::Ask(Channel& channel, const std::vector<int>& fds) {
  const Frame& answer = AwaitAnswer(channel, Send(channel, fds));
  if (!answer.has_ack()) Die("an answer that is no Ack");
  return answer.ack().error();
}

ErrorCode FrameRig::TryRead(uint32_t region, uint64_t offset,
                            uint32_t size_bytes, uint64_t* value) {
  RegionRead* read = shim_->outgoing().mutable_region_read();
  read->set_region(region);
  read->set_offset(offset);
  read->set_size_bytes(size_bytes);
  const Frame& answer = AwaitAnswer(*shim_, Send(*shim_));
  if (answer.has_ack()) return answer.ack().error();
  *value = answer.region_read_reply().value();
  return OK;
}

uint64_t FrameRig::Read(uint32_t region, uint64_t offset, uint32_t size_bytes) {
  uint64_t value = 0;
  if (TryRead(region, offset, size_bytes, &value) != OK) Die("read refused");
  return value;
}

void FrameRig::Write(uint32_t region, uint64_t offset, uint32_t size_bytes,
                     uint64_t value) {
  RegionWrite* write = shim_->outgoing().mutable_region_write();
  write->set_region(region);
  write->set_offset(offset);
  write->set_size_bytes(size_bytes);
  write->set_value(value);
  Send(*shim_);
}

ErrorCode FrameRig::Map(uint64_t address, uint64_t size_bytes,
                        uint64_t ram_offset, bool readable, bool writable) {
  MemoryMap* map = shim_->outgoing().mutable_memory_map();
  map->set_address(address);
  map->set_size_bytes(size_bytes);
  map->set_ram_offset(ram_offset);
  map->set_readable(readable);
  map->set_writable(writable);
  return Ask(*shim_);
}

ErrorCode FrameRig::Unmap(uint64_t address, uint64_t size_bytes) {
  MemoryUnmap* unmap = shim_->outgoing().mutable_memory_unmap();
  unmap->set_address(address);
  unmap->set_size_bytes(size_bytes);
  return Ask(*shim_);
}

ErrorCode FrameRig::Reset() {
  shim_->outgoing().mutable_reset();
  return Ask(*shim_);
}

ErrorCode FrameRig::Ping() {
  shim_->outgoing().mutable_ping();
  return Ask(*shim_);
}

ErrorCode FrameRig::Connect(InterruptKind kind, uint32_t vector) {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) Die("eventfd");
  const auto [entry, is_new] = eventfds_.try_emplace({kind, vector}, fd);
  if (!is_new) close(std::exchange(entry->second, fd));
  SetInterrupts* set = shim_->outgoing().mutable_set_interrupts();
  set->set_kind(kind);
  set->set_first(vector);
  set->set_count(1);
  set->add_present(true);
  return Ask(*shim_, {fd});
}

ErrorCode FrameRig::Disconnect(InterruptKind kind) {
  shim_->outgoing().mutable_set_interrupts()->set_kind(kind);
  return Ask(*shim_);
}

uint64_t FrameRig::Interrupts(InterruptKind kind, uint32_t vector) {
  const auto entry = eventfds_.find({kind, vector});
  if (entry == eventfds_.end()) return 0;
  uint64_t count = 0;
  return read(entry->second, &count, sizeof count) == sizeof count ? count : 0;
}

bool FrameRig::WaitForInterrupt(InterruptKind kind, uint32_t vector,
                                int timeout_ms) {
  const auto entry = eventfds_.find({kind, vector});
  if (entry == eventfds_.end()) return false;
  pollfd poll_entry = {entry->second, POLLIN, 0};
  return poll(&poll_entry, 1, timeout_ms) == 1 && Interrupts(kind, vector) > 0;
}

ErrorCode FrameRig::Quiesce() {
  control_->outgoing().mutable_quiesce();
  return Ask(*control_);
}

ErrorCode FrameRig::Resume() {
  control_->outgoing().mutable_resume();
  return Ask(*control_);
}

ErrorCode FrameRig::SaveState(int fd) {
  control_->outgoing().mutable_save_state();
  return Ask(*control_, {fd});
}

ErrorCode FrameRig::LoadState(int fd) {
  control_->outgoing().mutable_load_state();
  return Ask(*control_, {fd});
}

Ack FrameRig::GrowDisk(uint32_t backend, uint64_t size_bytes) {
  class GrowDisk* request = control_->outgoing().mutable_grow_disk();
  request->set_backend(backend);
  request->set_size_bytes(size_bytes);
  const Frame& answer = AwaitAnswer(*control_, Send(*control_));
  if (!answer.has_ack()) Die("an answer that is no Ack");
  return answer.ack();
}

std::map<std::string, uint64_t> FrameRig::Statistics() {
  control_->outgoing().mutable_get_statistics();
  const Frame& answer = AwaitAnswer(*control_, Send(*control_));
  std::map<std::string, uint64_t> counters;
  for (const Statistic& counter : answer.statistics().counters()) {
    counters[counter.name()] = counter.value();
  }
  return counters;
}

const ShadowHeader& FrameRig::shadow() const {
  return *reinterpret_cast<const ShadowHeader*>(shared_.at(0).first);
}

uint64_t FrameRig::ReadShadow(uint64_t shadow_offset,
                              uint32_t size_bytes) const {
  uint64_t value = 0;
  std::memcpy(&value,
              shared_.at(0).first + sizeof(ShadowHeader) + shadow_offset,
              std::min<uint32_t>(size_bytes, 8));
  return value;
}

uint8_t* FrameRig::doorbell(size_t index) const {
  return shared_.at(1 + index).first;
}

std::string FrameRig::ram(uint64_t offset, size_t size_bytes) const {
  if (offset + size_bytes > options_.ram_bytes) Die("beyond RAM");
  return std::string(reinterpret_cast<const char*>(ram_ + offset), size_bytes);
}

void FrameRig::set_ram(uint64_t offset, absl::string_view bytes) {
  if (offset + bytes.size() > options_.ram_bytes) Die("beyond RAM");
  std::memcpy(ram_ + offset, bytes.data(), bytes.size());
}

int FrameRig::Finish() {
  shim_.reset();
  control_.reset();
  finished_ = true;
  if (pid_ > 0) {
    int status = -1;
    waitpid(pid_, &status, 0);
    return status;
  }
  if (thread_.joinable()) thread_.join();
  return ended_.ok() ? 0 : 1;
}

int FrameRig::WaitForEnd() {
  pollfd entry = {control_->fd(), POLLIN, 0};
  while (poll(&entry, 1, kPatienceMs) == 1) {
    Channel::Received received;
    if (!control_->Receive(/*wait=*/true, &received).ok()) return Finish();
    if (control_->incoming().has_fault()) {
      fault_ = control_->incoming().fault().message();
    }
  }
  Die("the service does not end");
}

}  // namespace bulkhead

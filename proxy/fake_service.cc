#include "proxy/fake_service.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

namespace bulkhead::proxy {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int MakeMemfd(uint64_t size_bytes, bool seal) {
  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  [[maybe_unused]] const int sized =
      ftruncate(fd, static_cast<off_t>(size_bytes));
  if (seal) fcntl(fd, F_ADD_SEALS, kSeals);
  return fd;
}

}  // namespace

FakeService::FakeService(int fd, Options options)
    : options_(std::move(options)), channel_(fd) {
  shadow_memfd_ = MakeMemfd(kShadowBytes, options_.seals_shadow);
  shadow_ =
      static_cast<uint8_t*>(mmap(nullptr, kShadowBytes, PROT_READ | PROT_WRITE,
                                 MAP_SHARED, shadow_memfd_, 0));
  if (options_.has_doorbell) {
    doorbell_memfd_ = options_.doorbell_memfd >= 0
                          ? dup(options_.doorbell_memfd)
                          : MakeMemfd(16384, true);
  }
  thread_ = std::thread([this] { Loop(); });
}

FakeService::~FakeService() {
  ended_ = true;
  thread_.join();
  for (const auto& [vector, fd] : eventfds_) close(fd);
  munmap(shadow_, kShadowBytes);
  close(shadow_memfd_);
  if (doorbell_memfd_ >= 0) close(doorbell_memfd_);
}

void FakeService::Loop() {
  while (!ended_) {
    pollfd entry = {channel_.fd(), POLLIN, 0};
    const bool halted = frozen_ && allowance_ == 0;
    if (halted || poll(&entry, 1, 1) == 0) {
      if (halted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (frozen_ && allowance_ == 0) continue;  // since the poll
    if (frozen_) --allowance_;
    Channel::Received received;
    if (!channel_.Receive(/*wait=*/false, &received).ok()) return;
    if (received == Channel::Received::kFrame) Handle();
  }
}

void FakeService::SayHello() {
  Hello* hello = channel_.outgoing().mutable_hello();
  hello->set_version(kProtocolVersion);
  DeviceDescription* device = hello->mutable_device();
  device->set_model("fake");
  // NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): reads as a table
  const struct {
    uint32_t index;
    uint64_t size_bytes;
    bool io_space;
  } kRegions[] = {{0, kBarBytes, false},
                  {1, 256, true},
                  {2, 16384, false},
                  {7, 256, false}};
  for (const auto& shape : kRegions) {
    Region* region = device->add_regions();
    region->set_index(shape.index);
    region->set_size_bytes(shape.size_bytes);
    region->set_readable(true);
    region->set_writable(true);
    region->set_io_space(shape.io_space);
  }
  ShadowRange* shadow = device->add_shadows();
  shadow->set_size_bytes(kShadowedBytes);
  device->set_intx_pin(1);
  device->set_msi_vectors(4);
  device->set_msix_vectors(kMsixVectors);
  std::vector<int> fds = {shadow_memfd_};
  if (options_.has_doorbell) {
    Doorbell* doorbell = device->add_doorbells();
    doorbell->set_region(2);
    doorbell->set_offset(0x1000);
    doorbell->set_size_bytes(0x1000);
    fds.push_back(doorbell_memfd_);
  }
  if (options_.describe) options_.describe(device);
  fds.resize(1 + static_cast<size_t>(device->doorbells_size()), shadow_memfd_);
  channel_.Send(fds).IgnoreError();
}

void FakeService::Handle() {
  const Frame& frame = channel_.incoming();
  if (options_.records) frames_.push_back(frame);
  if (frame.has_hello() && options_.says_hello) SayHello();
  if (frame.has_region_write()) {
    const RegionWrite& write = frame.region_write();
    const uint64_t value = write.value();
    memcpy(&regions_[write.region()][write.offset()], &value,
           write.size_bytes());
    if (!lagging_) {
      if (write.region() == 0 && write.offset() < kShadowedBytes) {
        memcpy(shadow_ + sizeof(ShadowHeader) + write.offset(), &value,
               write.size_bytes());
      }
      reinterpret_cast<ShadowHeader*>(shadow_)->applied_sequence.store(
          frame.sequence(), std::memory_order_release);
    }
    return;
  }
  if (frame.has_set_interrupts()) {
    const SetInterrupts& set = frame.set_interrupts();
    const uint32_t count = set.count() == 0 ? 4096 : set.count();
    size_t fd = 0;
    for (uint32_t i = 0; i < count; ++i) {
      auto held = eventfds_.find({set.kind(), set.first() + i});
      if (held != eventfds_.end()) {
        close(held->second);
        eventfds_.erase(held);
      }
      if (i < set.count() && set.present(static_cast<int>(i))) {
        eventfds_[{set.kind(), set.first() + i}] = channel_.TakeFd(fd++);
      }
    }
  }
  if (mute_) {
    unanswered_.push_back(frame);
  } else {
    Answer(frame);
  }
}

void FakeService::Answer(const Frame& request) {
  if (request.has_hello()) return;
  Frame& reply = channel_.outgoing();
  reply.set_in_reply_to(request.sequence());
  if (request.has_region_read()) {
    const RegionRead& read = request.region_read();
    uint64_t value = 0;
    memcpy(&value, &regions_[read.region()][read.offset()], read.size_bytes());
    reply.mutable_region_read_reply()->set_value(value);
  } else {
    reply.mutable_ack();
  }
  channel_.Send().IgnoreError();
}

void FakeService::Mute(bool mute) {
  const std::lock_guard<std::mutex> lock(mutex_);
  mute_ = mute;
  if (mute) return;
  for (const Frame& request : unanswered_) Answer(request);
  unanswered_.clear();
}

void FakeService::SetIntx(bool level) {
  auto* header = reinterpret_cast<ShadowHeader*>(shadow_);
  const bool was = header->intx_level.exchange(level ? 1 : 0) != 0;
  if (level && !was) Raise(INTX, 0);
}

void FakeService::ClaimIntxRaised(uint32_t count) {
  reinterpret_cast<ShadowHeader*>(shadow_)->intx_raised.store(count);
}

bool FakeService::Raise(InterruptKind kind, uint32_t vector) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto held = eventfds_.find({kind, vector});
  if (held == eventfds_.end()) return false;
  const uint64_t one = 1;
  return write(held->second, &one, sizeof one) == sizeof one;
}

bool FakeService::HasVector(InterruptKind kind, uint32_t vector) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return eventfds_.count({kind, vector}) != 0;
}

void FakeService::SetShadow(uint64_t offset, uint8_t byte) {
  shadow_[sizeof(ShadowHeader) + offset] = byte;
}

void FakeService::SetConfig(uint64_t offset, uint8_t byte) {
  const std::lock_guard<std::mutex> lock(mutex_);
  regions_[7][offset] = byte;
}

uint8_t FakeService::bar(uint64_t offset) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return regions_[0][offset];
}

std::vector<Frame> FakeService::Frames(Frame::BodyCase type) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Frame> found;
  for (const Frame& frame : frames_) {
    if (frame.body_case() == type) found.push_back(frame);
  }
  return found;
}

bool FakeService::WaitFor(Frame::BodyCase type, size_t count) {
  for (int i = 0; i < 2000; ++i) {
    if (Frames(type).size() >= count) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

void FakeService::Send(const std::function<void(Frame*)>& fill) {
  const std::lock_guard<std::mutex> lock(mutex_);
  fill(&channel_.outgoing());
  channel_.Send().IgnoreError();
}

void FakeService::SendPacket(const std::string& bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  send(channel_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

}  // namespace bulkhead::proxy

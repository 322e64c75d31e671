#include "proxy/x_remote/fake_x_remote.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "proxy/message_stream.h"

namespace bulkhead::proxy {

using mpqemu::Command;

FakeXRemote::FakeXRemote(int socket) : socket_(socket) {
  const uint32_t ids = 0x00121000;
  memcpy(&config_[0], &ids, sizeof ids);
  config_[0x06] = 0x10;  // a capability list
  config_[0x34] = 0x40;
  config_[0x3d] = 1;  // INTA
  thread_ = std::thread([this] { Loop(); });
}

FakeXRemote::~FakeXRemote() {
  ended_ = true;
  thread_.join();
  for (int fd : {socket_, raise_, resample_}) {
    if (fd >= 0) close(fd);
  }
}

void FakeXRemote::Loop() {
  using Stream = MessageStream<mpqemu::Wire>;
  auto stream = std::make_unique<Stream>();
  while (!ended_) {
    pollfd entry = {socket_, POLLIN, 0};
    if (frozen_ || (!stream->HasBytes() && poll(&entry, 1, 1) == 0)) {
      if (frozen_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    Stream::Message message;
    const Stream::Next next = stream->Receive(socket_, &message);
    if (next == Stream::Next::kNothing) continue;
    if (next != Stream::Next::kMessage) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto command = static_cast<Command>(message.header.command);
    const std::string body(
        reinterpret_cast<const char*>(message.payload.data()),
        message.payload.size());
    log_.push_back({command, body, message.fds.size()});
    if (command == Command::kSetIrqfd) {
      for (int fd : {raise_, resample_}) {
        if (fd >= 0) close(fd);
      }
      raise_ = message.TakeFd(0).Release();
      resample_ = message.TakeFd(1).Release();
    }
    if (command == Command::kSetIrqfd || command == Command::kSyncSysmem) {
      continue;
    }
    const uint64_t value = Answer(command, body);
    const bool is_reset = command == Command::kDeviceReset;
    const mpqemu::Header header = {static_cast<int32_t>(Command::kReturn), 0,
                                   is_reset ? 0 : sizeof value};
    std::string reply(reinterpret_cast<const char*>(&header), sizeof header);
    if (!is_reset) {
      reply.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    SendBytes(reply);
  }
}

void FakeXRemote::SendBytes(const std::string& bytes) {
  send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

uint64_t FakeXRemote::Answer(Command command, const std::string& body) {
  if (command == Command::kConfigRead || command == Command::kConfigWrite) {
    mpqemu::ConfigAccess access = {};
    body.copy(reinterpret_cast<char*>(&access), sizeof access);
    return Config(access, command == Command::kConfigWrite);
  }
  if (command == Command::kDeviceReset) {
    memset(&config_[0x10], 0, 24);
    return 0;
  }
  mpqemu::BarAccess access = {};
  body.copy(reinterpret_cast<char*>(&access), sizeof access);
  if (command == Command::kBarRead) return memory_[access.address];
  memory_[access.address] = access.value;
  return 0;
}

uint64_t FakeXRemote::Config(const mpqemu::ConfigAccess& access,
                             bool is_write) {
  const std::map<uint32_t, std::pair<uint32_t, uint32_t>> kBars = {
      // offset: what can be written, what is always there
      {0x10, {0xffffff00, 1}}, {0x14, {0xfffff000, 0}},
      {0x18, {0, 0}},          {0x1c, {0, 0}},
      {0x20, {0xffffc000, 4}}, {0x24, {0xffffffff, 0}}};
  uint32_t value = 0;
  if (access.address + 4 > config_.size() || access.size_bytes < 1 ||
      access.size_bytes > 4) {
    return ~uint64_t{0};
  }
  const auto bytes = static_cast<size_t>(access.size_bytes);
  if (is_write) {
    memcpy(&config_[access.address], &access.value, bytes);
    const auto bar = kBars.find(access.address & ~3u);
    if (bar != kBars.end()) {
      memcpy(&value, &config_[bar->first], 4);
      value = (value & bar->second.first) | bar->second.second;
      memcpy(&config_[bar->first], &value, 4);
    }
    return 0;
  }
  memcpy(&value, &config_[access.address], bytes);
  return value;
}

bool FakeXRemote::Raise() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t one = 1;
  return raise_ >= 0 && write(raise_, &one, sizeof one) == sizeof one;
}

bool FakeXRemote::TakeResample() {
  int fd = -1;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    fd = resample_;
  }
  pollfd entry = {fd, POLLIN, 0};
  uint64_t count;
  return fd >= 0 && poll(&entry, 1, 1000) == 1 &&
         read(fd, &count, sizeof count) == sizeof count;
}

std::vector<FakeXRemote::Asked> FakeXRemote::Log(Command command) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Asked> found;
  for (const Asked& asked : log_) {
    if (asked.command == command) found.push_back(asked);
  }
  return found;
}

bool FakeXRemote::WaitFor(Command command, size_t count) {
  for (int i = 0; i < 2000; ++i) {
    if (Log(command).size() >= count) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace bulkhead::proxy

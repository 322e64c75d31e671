#include "proxy/mpqemu_front_end.h"

#include <string.h>

#include <algorithm>

namespace bulkhead::proxy {
namespace {

using mpqemu::Command;
using mpqemu::Header;

constexpr uint64_t kNoTarget = ~uint64_t{0};

// What the protocol says of a message before it is looked into.
struct Form {
  size_t size_bytes;
  size_t min_fds;
  size_t max_fds;
};

bool FormOf(int32_t command, Form* form) {
  switch (static_cast<Command>(command)) {
    case Command::kSyncSysmem:
      *form = {sizeof(mpqemu::SyncSysmem), 1, mpqemu::kMaxRanges};
      return true;
    case Command::kConfigWrite:
    case Command::kConfigRead:
      *form = {sizeof(mpqemu::ConfigAccess), 0, 0};
      return true;
    case Command::kBarWrite:
    case Command::kBarRead:
      *form = {sizeof(mpqemu::BarAccess), 0, 0};
      return true;
    case Command::kSetIrqfd:
      *form = {0, 2, 2};
      return true;
    case Command::kDeviceReset:
      *form = {0, 0, 0};
      return true;
    case Command::kReturn:  // this side asks nothing
      break;
  }
  return false;
}

bool IsAccessSize(uint64_t size_bytes, uint64_t largest) {
  return size_bytes != 0 && size_bytes <= largest &&
         (size_bytes & (size_bytes - 1)) == 0;
}

}  // namespace

void MpqemuFrontEnd::OnConnected() {
  bars_.Reset();
  range_count_ = 0;
}

bool MpqemuFrontEnd::Handle(Message& message) {
  Form form;
  if (!FormOf(message.header.command, &form) ||
      message.payload.size() != form.size_bytes ||
      message.fds.size() < form.min_fds || message.fds.size() > form.max_fds) {
    return false;
  }
  switch (static_cast<Command>(message.header.command)) {
    case Command::kBarRead:
      return HandleBar(message, /*is_write=*/false);
    case Command::kBarWrite:
      return HandleBar(message, /*is_write=*/true);
    case Command::kConfigRead:
      return HandleConfig(message, /*is_write=*/false);
    case Command::kConfigWrite:
      return HandleConfig(message, /*is_write=*/true);
    case Command::kSyncSysmem:
      return HandleSyncSysmem(message);
    case Command::kSetIrqfd:
      return HandleSetIrqfd(message);
    case Command::kDeviceReset:
      bars_.Reset();
      device_.Reset();
      AppendReply(Header{.command = static_cast<int32_t>(Command::kReturn),
                         .padding = 0,
                         .size_bytes = 0});
      return true;
    case Command::kReturn:
      break;
  }
  return false;
}

// What stays is left alone: a device may be using it at this moment.
bool MpqemuFrontEnd::HandleSyncSysmem(const Message& message) {
  mpqemu::SyncSysmem table;
  if (!message.Copy(&table)) return false;
  const size_t count = message.fds.size();
  std::array<Range, mpqemu::kMaxRanges> sorted;
  for (size_t i = 0; i < count; ++i) {
    sorted[i] = {table.address[i], table.size_bytes[i]};
  }
  const auto end = sorted.begin() + count;
  std::sort(sorted.begin(), end, [](const Range& a, const Range& b) {
    return a.address < b.address;
  });
  for (size_t i = 0; i < count; ++i) {
    // Up to the next one's begin, or the last byte that there is.
    const uint64_t room = i + 1 < count
                              ? sorted[i + 1].address - sorted[i].address
                              : ~sorted[i].address;
    if (sorted[i].size_bytes == 0 || sorted[i].size_bytes > room) return false;
  }
  for (size_t i = 0; i < range_count_; ++i) {
    const Range& old = ranges_[i];
    if (std::find(sorted.begin(), end, old) == end) {
      device_.Unmap(old.address, old.size_bytes);
    }
  }
  ranges_ = sorted;
  range_count_ = count;
  for (size_t i = 0; i < count; ++i) {
    device_.Map(table.address[i], table.size_bytes[i], table.offset[i],
                /*readable=*/true, /*writable=*/true, message.fds[i].get());
  }
  return true;
}

bool MpqemuFrontEnd::HandleSetIrqfd(Message& message) {
  // QEMU sends them to a device without an interrupt pin as well.
  if (device_.VectorCount(INTX) == 0) return true;
  if (!device_.SetVectors(INTX, 0, 1, message.fds.first(1))) return false;
  device_.SetIntxUnmaskFd(message.TakeFd(1));
  return true;
}

bool MpqemuFrontEnd::HandleConfig(const Message& message, bool is_write) {
  mpqemu::ConfigAccess access;
  if (!message.Copy(&access)) return false;
  const auto size_bytes = static_cast<uint32_t>(access.size_bytes);
  uint8_t bytes[sizeof access.value] = {};
  if (!IsAccessSize(size_bytes, sizeof bytes)) {
    Return(kNoTarget);
    return true;
  }
  const absl::Span<uint8_t> data(bytes, size_bytes);
  if (is_write) {
    memcpy(bytes, &access.value, size_bytes);
    const bool done = device_.Write(kConfigRegion, access.address, data);
    if (done) bars_.OnConfigWrite(access.address, size_bytes, access.value);
    Return(done ? 0 : kNoTarget);
    return true;
  }
  uint64_t value = 0;
  const bool done = device_.Read(kConfigRegion, access.address, data);
  memcpy(&value, bytes, size_bytes);
  Return(done ? value : kNoTarget);
  return true;
}

bool MpqemuFrontEnd::HandleBar(const Message& message, bool is_write) {
  mpqemu::BarAccess access;
  if (!message.Copy(&access)) return false;
  uint8_t bytes[sizeof access.value] = {};
  uint32_t bar;
  uint64_t offset;
  if (!IsAccessSize(access.size_bytes, sizeof bytes) ||
      !bars_.Find(device_, access.address, access.size_bytes,
                  access.memory != 0, &bar, &offset)) {
    Return(kNoTarget);
    return true;
  }
  const absl::Span<uint8_t> data(bytes, access.size_bytes);
  if (is_write) {
    memcpy(bytes, &access.value, sizeof bytes);
    Return(device_.Write(bar, offset, data) ? 0 : kNoTarget);
    return true;
  }
  uint64_t value = 0;
  const bool done = device_.Read(bar, offset, data);
  memcpy(&value, bytes, access.size_bytes);
  Return(done ? value : kNoTarget);
  return true;
}

void MpqemuFrontEnd::Return(uint64_t value) {
  AppendReply(Header{.command = static_cast<int32_t>(Command::kReturn),
                     .padding = 0,
                     .size_bytes = sizeof value});
  AppendReply(value);
}

}  // namespace bulkhead::proxy

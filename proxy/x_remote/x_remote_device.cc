#include "proxy/x_remote/x_remote_device.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proxy/eventfd.h"

namespace bulkhead::proxy {
namespace {

using mpqemu::Command;

// PCI 3.0 §6.1.
constexpr uint64_t kConfigBytes = 256;
constexpr uint32_t kStatusOffset = 0x06;
constexpr uint8_t kCapabilitiesListBit = 0x10;
constexpr uint32_t kHeaderTypeOffset = 0x0e;
constexpr uint32_t kCapabilitiesPointer = 0x34;
constexpr uint32_t kInterruptPin = 0x3d;
constexpr uint32_t kIoBarBit = 0x1;
constexpr uint32_t kMemoryTypeMask = 0x6;
constexpr uint32_t kMemoryType64 = 0x4;

constexpr uint64_t kNone = ~uint64_t{0};
// What may be unanswered before a store waits.
constexpr uint32_t kMaxOwed = 64;
// The largest table that QEMU takes has one entry less than its arrays.
constexpr size_t kMaxTable = mpqemu::kMaxRanges - 1;
// A store for which there is no room is not waited for: see "slow".
constexpr timespec kNoPatience = {0, 0};

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

template <typename T>
absl::Span<const uint8_t> BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

bool IsAnswered(Command command) {
  return command != Command::kSyncSysmem && command != Command::kSetIrqfd;
}

// Guest memory is the same for reads and writes there, so ranges that touch in
// both address and file are one.
size_t MergedRam(absl::Span<const MemoryRange> ranges,
                 absl::Span<MemoryRange> out) {
  size_t count = 0;
  for (const MemoryRange& range : ranges) {
    if (!range.is_ram || !range.readable) continue;
    if (count != 0) {
      MemoryRange& last = out[count - 1];
      if (last.last() + 1 == range.address &&
          last.ram_offset + last.size_bytes == range.ram_offset) {
        last.size_bytes += range.size_bytes;
        continue;
      }
    }
    if (count < out.size()) {
      out[count++] = range;
      continue;
    }
    // Too many: the smallest, a piece of shadowed ROM, is left out.
    MemoryRange* smallest = std::min_element(
        out.begin(), out.end(), [](const MemoryRange& a, const MemoryRange& b) {
          return a.size_bytes < b.size_bytes;
        });
    if (smallest->size_bytes >= range.size_bytes) continue;
    std::move(smallest + 1, out.end(), smallest);
    out.back() = range;
  }
  return count;
}

}  // namespace

XRemoteDevice::XRemoteDevice(int socket, int ram_fd, const RamIdentity& ram,
                             const XRemoteDeadlines& deadlines)
    : ram_(ram),
      deadlines_(deadlines),
      ram_fd_(ram_fd),
      patience_ns_(deadlines.access_ns),
      socket_(socket),
      memory_([this](const MemoryRange& changed, bool) {
        memory_changed_ |= changed.is_ram;
      }),
      no_raise_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      resample_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

// ---- the wire

void XRemoteDevice::Lose(absl::string_view why) {
  if (lost()) return;
  socket_.Close();
  owed_ = 0;
  loss_ = std::string(why);
}

bool XRemoteDevice::Send(Command command, absl::Span<const uint8_t> body,
                         absl::Span<const int> fds) {
  if (lost()) return false;
  std::array<uint8_t, mpqemu::Wire::kMaxMessageBytes> bytes;
  const mpqemu::Header header = {.command = static_cast<int32_t>(command),
                                 .padding = 0,
                                 .size_bytes = body.size()};
  memcpy(bytes.data(), &header, sizeof header);
  if (!body.empty()) {
    memcpy(&bytes[sizeof header], body.data(), body.size());
  }
  if (!SendBytes(socket_.get(), {bytes.data(), sizeof header + body.size()},
                 fds, kNoPatience)) {
    Lose("it does not take what it is sent");
    return false;
  }
  owed_ += IsAnswered(command) ? 1 : 0;
  return true;
}

bool XRemoteDevice::TakeAnswer(uint64_t* value) {
  if (lost()) return false;
  Stream::Message message;
  switch (stream_.Receive(socket_.get(), &message)) {
    case Stream::Next::kNothing:
      return false;
    case Stream::Next::kClosed:
      Lose("its process has ended");
      return false;
    case Stream::Next::kBroken:
      Lose("it broke the protocol");
      return false;
    case Stream::Next::kMessage:
      break;
  }
  // A reset is answered without a value.
  const bool is_sound =
      message.header.command == static_cast<int32_t>(Command::kReturn) &&
      (message.payload.empty() || message.payload.size() == sizeof *value) &&
      message.fds.empty() && owed_ != 0;
  if (!is_sound) {
    Lose("it broke the protocol");
    return false;
  }
  *value = 0;
  message.Copy(value);
  --owed_;
  return true;
}

void XRemoteDevice::Poll() {
  uint64_t value;
  while (TakeAnswer(&value)) {
  }
  if (owed_ == 0) slow_ = false;
}

bool XRemoteDevice::Await(uint64_t deadline, uint64_t* last) {
  while (owed_ != 0) {
    if (TakeAnswer(last)) continue;
    const uint64_t now = NowNs();
    if (lost() || now >= deadline) break;
    const timespec rest = {
        static_cast<time_t>((deadline - now) / 1'000'000'000),
        static_cast<long>((deadline - now) % 1'000'000'000)};
    pollfd entry = {socket_.get(), POLLIN, 0};
    ppoll(&entry, 1, &rest, nullptr);
  }
  if (!lost() && owed_ == 0) {
    slow_ = false;
    return true;
  }
  slow_ = true;
  return false;
}

uint64_t XRemoteDevice::Ask(Command command, absl::Span<const uint8_t> body,
                            uint64_t patience_ns) {
  if (slow_) Poll();  // it may have caught up
  if (slow_ || !Send(command, body, {})) return kNone;
  uint64_t value = 0;
  return Await(NowNs() + patience_ns, &value) ? value : kNone;
}

// ---- what the device is

uint64_t XRemoteDevice::AskConfig(uint32_t offset, uint32_t size_bytes) {
  return Ask(Command::kConfigRead,
             BytesOf(mpqemu::ConfigAccess{offset, 0,
                                          static_cast<int32_t>(size_bytes)}),
             patience_ns_);
}

// PCI 3.0 §6.2.5.1: what is read back of all ones is the size. Writes of ones
// go to the register itself, so its own value comes back afterwards.
bool XRemoteDevice::ProbeBar(uint32_t bar, bool* is_wide) {
  const uint32_t at = kFirstBarOffset + 4 * bar;
  const auto probe = [&](uint32_t offset) {
    WritePiece(kConfigRegion, offset, 4, 0xffffffff);
    const uint64_t answer = AskConfig(offset, 4);
    WritePiece(kConfigRegion, offset, 4, 0);
    return answer;
  };
  const uint64_t low = probe(at);
  if (low == kNone) return false;
  *is_wide = (low & kIoBarBit) == 0 && (low & kMemoryTypeMask) == kMemoryType64;
  if (low == 0) return true;
  const bool io = (low & kIoBarBit) != 0;
  uint64_t mask = low & (io ? ~uint64_t{0x3} : ~uint64_t{0xf});
  if (*is_wide) {
    if (bar + 1 == kBarCount) return false;
    const uint64_t high = probe(at + 4);
    if (high == kNone) return false;
    mask |= high << 32;
    bars_.SetWide(bar);
  } else {
    mask |= uint64_t{0xffffffff} << 32;
  }
  // I/O BARs may decode 16 bits only.
  if (io && (mask & 0xffff0000) == 0) mask |= 0xffff0000;
  const uint64_t size_bytes = ~mask + 1;
  if (size_bytes == 0 || (size_bytes & (size_bytes - 1)) != 0) return false;
  regions_[bar] = {.size_bytes = size_bytes,
                   .readable = true,
                   .writable = true,
                   .narrow = io};
  return true;
}

absl::Status XRemoteDevice::Probe(uint64_t patience_ns) {
  patience_ns_ = patience_ns;
  const absl::Status status = ProbeAll();
  patience_ns_ = deadlines_.access_ns;
  return status;
}

absl::Status XRemoteDevice::ProbeAll() {
  regions_[kConfigRegion] = {.size_bytes = kConfigBytes,
                             .readable = true,
                             .writable = true,
                             .narrow = true};
  const uint64_t vendor = AskConfig(0, 2);
  if (vendor == kNone || vendor == 0xffff) {
    return absl::UnavailableError(
        lost() ? absl::StrCat("the remote QEMU is gone: ", loss_)
               : "the remote QEMU does not answer");
  }
  if ((AskConfig(kHeaderTypeOffset, 1) & 0x7f) != 0) {
    return absl::InvalidArgumentError("the remote device is no PCI endpoint");
  }
  bool is_wide = false;
  for (uint32_t bar = 0; bar < kBarCount; bar += is_wide ? 2 : 1) {
    if (!ProbeBar(bar, &is_wide)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the remote device has a bad BAR ", bar));
    }
  }
  const uint64_t pin = AskConfig(kInterruptPin, 1);
  intx_vectors_ = pin != 0 && pin <= 4 ? 1 : 0;
  if (lost()) return absl::UnavailableError(loss_);
  return absl::OkStatus();
}

// ---- accesses

const RegionShape& XRemoteDevice::Region(uint32_t region) const {
  return regions_.at(region);
}

uint32_t XRemoteDevice::VectorCount(InterruptKind kind) const {
  return kind == INTX ? intx_vectors_ : 0;
}

bool XRemoteDevice::Contains(uint32_t region, uint64_t offset,
                             size_t size_bytes) const {
  return region < kRegionLimit &&
         IsInside(offset, size_bytes, regions_[region].size_bytes);
}

uint64_t XRemoteDevice::ReadPiece(uint32_t region, uint64_t offset,
                                  uint32_t size_bytes) {
  if (region == kConfigRegion) {
    return AskConfig(static_cast<uint32_t>(offset), size_bytes);
  }
  const uint64_t base = bars_.Base(region, regions_[region]);
  if (base == 0) return kNone;
  return Ask(Command::kBarRead,
             BytesOf(mpqemu::BarAccess{
                 .address = base + offset,
                 .value = 0,
                 .size_bytes = size_bytes,
                 .memory = static_cast<uint8_t>(!regions_[region].narrow),
                 .padding = {}}),
             deadlines_.access_ns);
}

bool XRemoteDevice::Read(uint32_t region, uint64_t offset,
                         absl::Span<uint8_t> data) {
  if (!Contains(region, offset, data.size())) return false;
  SendMemory();
  for (size_t at = 0; at < data.size();) {
    const uint32_t size_bytes =
        PieceBytes(offset + at, data.size() - at, regions_[region].narrow);
    const uint64_t value = ReadPiece(region, offset + at, size_bytes);
    memcpy(&data[at], &value, size_bytes);
    at += size_bytes;
  }
  if (region != kConfigRegion || lost()) return true;
  for (size_t i = 0; i < data.size(); ++i) {
    if (offset + i == kStatusOffset) data[i] &= ~kCapabilitiesListBit;
    if (offset + i == kCapabilitiesPointer) data[i] = 0;
  }
  return true;
}

void XRemoteDevice::WritePiece(uint32_t region, uint64_t offset,
                               uint32_t size_bytes, uint64_t value) {
  if (owed_ >= kMaxOwed) {
    uint64_t ignored;
    Poll();
    if (!slow_) Await(NowNs() + deadlines_.access_ns, &ignored);
  }
  if (region == kConfigRegion) {
    const mpqemu::ConfigAccess access = {
        .address = static_cast<uint32_t>(offset),
        .value = static_cast<uint32_t>(value),
        .size_bytes = static_cast<int32_t>(size_bytes)};
    if (Send(Command::kConfigWrite, BytesOf(access), {})) {
      bars_.OnConfigWrite(access.address, size_bytes, access.value);
    }
    return;
  }
  const uint64_t base = bars_.Base(region, regions_[region]);
  if (base == 0) return;
  Send(Command::kBarWrite,
       BytesOf(mpqemu::BarAccess{
           .address = base + offset,
           .value = value,
           .size_bytes = size_bytes,
           .memory = static_cast<uint8_t>(!regions_[region].narrow),
           .padding = {}}),
       {});
}

bool XRemoteDevice::Write(uint32_t region, uint64_t offset,
                          absl::Span<const uint8_t> data) {
  if (!Contains(region, offset, data.size())) return false;
  SendMemory();
  while (!data.empty()) {
    const uint32_t size_bytes =
        PieceBytes(offset, data.size(), regions_[region].narrow);
    uint64_t value = 0;
    memcpy(&value, data.data(), size_bytes);
    WritePiece(region, offset, size_bytes, value);
    offset += size_bytes;
    data.remove_prefix(size_bytes);
  }
  return true;
}

void XRemoteDevice::Reset() {
  bars_.Reset();
  uint64_t ignored;
  // Also to one that is slow: it must not go on with what it was doing.
  if (Send(Command::kDeviceReset, {}, {}) && !slow_) {
    Await(NowNs() + deadlines_.reset_ns, &ignored);
  }
}

// ---- memory

void XRemoteDevice::SendMemory() {
  if (!memory_changed_) return;
  memory_changed_ = false;
  std::array<MemoryRange, kMaxTable> ranges;
  std::array<int, kMaxTable> fds;
  // The protocol has no empty table: the last one stays.
  const size_t count = MergedRam(memory_.ranges(), absl::MakeSpan(ranges));
  if (count == 0) return;
  mpqemu::SyncSysmem table = {};
  for (size_t i = 0; i < count; ++i) {
    table.address[i] = ranges[i].address;
    table.size_bytes[i] = ranges[i].size_bytes;
    table.offset[i] = ranges[i].ram_offset;
    fds[i] = ram_fd_;
  }
  Send(Command::kSyncSysmem, BytesOf(table), {fds.data(), count});
}

bool XRemoteDevice::Map(uint64_t address, uint64_t size_bytes,
                        uint64_t file_offset, bool readable, bool writable,
                        int fd) {
  const MemoryRange range = {.address = address,
                             .size_bytes = size_bytes,
                             .ram_offset = file_offset,
                             .readable = readable,
                             .writable = writable,
                             .is_ram = ram_.Holds(fd, file_offset, size_bytes)};
  return memory_.Insert(range);
}

bool XRemoteDevice::Unmap(uint64_t address, uint64_t size_bytes) {
  const bool found = memory_.Remove(address, size_bytes);
  if (memory_changed_) {
    SendMemory();
    AskConfig(0, 4);  // answered when the table is in use
  }
  return found;
}

void XRemoteDevice::UnmapAll() {
  memory_.Clear();
  // Nothing is mapped any more, which cannot be said; a device that has been
  // reset uses nothing.
  memory_changed_ = true;
}

// ---- interrupts

void XRemoteDevice::SendInterrupt() {
  const std::array<int, 2> fds = {
      (raise_fd_.valid() ? raise_fd_ : no_raise_fd_).get(),
      (unmask_fd_.valid() ? unmask_fd_ : resample_fd_).get()};
  Send(Command::kSetIrqfd, {}, fds);
}

bool XRemoteDevice::SetVectors(InterruptKind kind, uint32_t first,
                               uint32_t count, absl::Span<Fd> fds) {
  const bool is_good = kind == INTX && first == 0 && count <= intx_vectors_ &&
                       (fds.empty() || fds.size() == count) &&
                       std::all_of(fds.begin(), fds.end(), IsEventfd);
  if (!is_good) return false;
  if (count == 0) return true;
  raise_fd_ = fds.empty() ? Fd() : std::move(fds[0]);
  SendInterrupt();
  // A line that is already high has had its edge.
  if (raise_fd_.valid()) MaskIntx(false);
  return true;
}

void XRemoteDevice::DisableVectors(InterruptKind kind) {
  if (kind == INTX) SetVectors(INTX, 0, intx_vectors_, {});
}

bool XRemoteDevice::Trigger(InterruptKind kind, uint32_t vector) {
  if (vector >= VectorCount(kind)) return false;
  RaiseEventfd(raise_fd_);
  return true;
}

// The process looks at its level when it is told that the guest is done, and
// raises again if that is high.
void XRemoteDevice::MaskIntx(bool masked) {
  if (!masked && !unmask_fd_.valid()) RaiseEventfd(resample_fd_);
}

void XRemoteDevice::SetIntxUnmaskFd(Fd fd) {
  unmask_fd_ = IsEventfd(fd) ? std::move(fd) : Fd();
  SendInterrupt();
}

void XRemoteDevice::Detach() {
  DisableVectors(INTX);
  if (unmask_fd_.valid()) SetIntxUnmaskFd(Fd());
  Reset();
  UnmapAll();
}

}  // namespace bulkhead::proxy

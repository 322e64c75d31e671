#include "proxy/vfio_user_front_end.h"

#include <errno.h>
#include <string.h>

#include <string_view>

namespace bulkhead::proxy {
namespace {

using vfio_user::Command;
using vfio_user::Header;

constexpr char kCapabilities[] =
    R"({"capabilities":{"max_msg_fds":16,"max_data_xfer_size":65536,)"
    R"("max_dma_maps":4096,"pgsizes":4096)";
constexpr std::string_view kWriteMultiple = R"("write_multiple")";
static_assert(kMaxMessageFds == 16 && kMaxTransferBytes == 65536);

// The kinds of interrupt that VFIO counts first, in its order. UNSPECIFIED: the
// notifiers of errors and of requests, which it counts behind them.
static_assert(INTX == VFIO_PCI_INTX_IRQ_INDEX + 1 &&
              MSI == VFIO_PCI_MSI_IRQ_INDEX + 1 &&
              MSIX == VFIO_PCI_MSIX_IRQ_INDEX + 1);
InterruptKind KindOf(uint32_t irq_index) {
  return irq_index <= VFIO_PCI_MSIX_IRQ_INDEX
             ? static_cast<InterruptKind>(irq_index + 1)
             : INTERRUPT_KIND_UNSPECIFIED;
}

}  // namespace

bool VfioUserFrontEnd::Handle(Message& message) {
  const Header& header = message.header;
  reply_bytes_ = sizeof(Header);
  // This side asks nothing, so a reply answers nothing.
  if ((header.flags & vfio_user::kTypeMask) != vfio_user::kTypeCommand) {
    return false;
  }
  if (!version_agreed_ &&
      header.command != static_cast<uint16_t>(Command::kVersion)) {
    return false;
  }
  const int error = Dispatch(message);
  if ((header.flags & vfio_user::kNoReply) != 0) {
    reply_bytes_ = 0;
    return true;
  }
  Header answer = {.message_id = header.message_id,
                   .command = header.command,
                   .size_bytes = static_cast<uint32_t>(reply_bytes_),
                   .flags = vfio_user::kTypeReply,
                   .error = 0};
  if (error != 0) {
    answer.size_bytes = reply_bytes_ = sizeof(Header);
    answer.flags |= vfio_user::kError;
    answer.error = static_cast<uint32_t>(error);
    reply_fd_ = -1;
  }
  memcpy(reply_.data(), &answer, sizeof answer);
  return true;
}

int VfioUserFrontEnd::Dispatch(Message& message) {
  switch (static_cast<Command>(message.header.command)) {
    case Command::kRegionRead:
      return HandleRegionRead(message);
    case Command::kRegionWrite:
      return HandleRegionWrite(message);
    case Command::kRegionWriteMulti:
      return HandleWriteMulti(message);
    case Command::kDeviceSetIrqs:
      return HandleSetIrqs(message);
    case Command::kDmaMap:
      return HandleDmaMap(message);
    case Command::kDmaUnmap:
      return HandleDmaUnmap(message);
    case Command::kDeviceReset:
      device_.Reset();
      return 0;
    case Command::kVersion:
      return HandleVersion(message);
    case Command::kDeviceGetInfo:
      return HandleGetInfo(message);
    case Command::kDeviceGetRegionInfo:
      return HandleGetRegionInfo(message);
    case Command::kDeviceGetIrqInfo:
      return HandleGetIrqInfo(message);
    default:
      return ENOTSUP;
  }
}

int VfioUserFrontEnd::HandleVersion(const Message& message) {
  vfio_user::Version version;
  if (!message.Copy(&version) || version_agreed_) return EINVAL;
  if (version.major != 0) return ENOTSUP;
  if (!device_.Available()) return ENODEV;
  version_agreed_ = true;

  AppendReply(vfio_user::Version{.major = 0, .minor = 0});
  const std::string_view proposed(
      reinterpret_cast<const char*>(message.payload.data()),
      message.payload.size());
  std::string_view end = "}}";
  // What the client did not propose must not be answered.
  if (proposed.find(kWriteMultiple) != std::string_view::npos) {
    end = R"(,"write_multiple":true}})";
  }
  for (std::string_view text : {std::string_view(kCapabilities), end}) {
    memcpy(&reply_[reply_bytes_], text.data(), text.size());
    reply_bytes_ += text.size();
  }
  AppendReply('\0');
  return 0;
}

int VfioUserFrontEnd::HandleDmaMap(const Message& message) {
  vfio_user::DmaMap map;
  if (!message.Copy(&map) || message.fds.size() > 1) return EINVAL;
  const int fd = message.fds.empty() ? -1 : message.fds[0].get();
  return device_.Map(map.address, map.size_bytes, map.offset,
                     (map.flags & vfio_user::kDmaReadable) != 0,
                     (map.flags & vfio_user::kDmaWritable) != 0, fd)
             ? 0
             : EINVAL;
}

int VfioUserFrontEnd::HandleDmaUnmap(const Message& message) {
  vfio_user::DmaUnmap unmap;
  if (!message.Copy(&unmap)) return EINVAL;
  if ((unmap.flags & vfio_user::kDmaUnmapAll) != 0) {
    device_.UnmapAll();
  } else if (!device_.Unmap(unmap.address, unmap.size_bytes)) {
    return EINVAL;
  }
  AppendReply(unmap);
  return 0;
}

int VfioUserFrontEnd::HandleGetInfo(const Message& message) {
  vfio_user::DeviceInfo info;
  if (!message.Copy(&info) || info.argsz < sizeof info) return EINVAL;
  AppendReply(vfio_user::DeviceInfo{
      .argsz = sizeof info,
      .flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
      .num_regions = VFIO_PCI_NUM_REGIONS,
      .num_irqs = VFIO_PCI_NUM_IRQS});
  return 0;
}

// With a mappable region the reply has a capability behind it. A client whose
// argsz has no room for that gets the fixed part with the size it needs, and
// asks again.
int VfioUserFrontEnd::HandleGetRegionInfo(const Message& message) {
  vfio_region_info info;
  if (!message.Copy(&info) || info.argsz < sizeof info ||
      info.index >= VFIO_PCI_NUM_REGIONS) {
    return EINVAL;
  }
  const uint32_t room = info.argsz;
  const RegionShape& region = device_.Region(info.index);
  const bool mappable = region.doorbell_bytes != 0;
  info.argsz = sizeof info;
  info.flags = (region.readable ? VFIO_REGION_INFO_FLAG_READ : 0) |
               (region.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0);
  info.cap_offset = 0;
  info.size = region.size_bytes;
  info.offset = 0;
  if (mappable) {
    info.argsz += sizeof(vfio_user::SparseMmap);
    info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
    info.cap_offset = sizeof info;
  }
  AppendReply(info);
  if (mappable && room >= info.argsz) {
    AppendReply(vfio_user::SparseMmap{
        .area = {region.doorbell_offset, region.doorbell_bytes}});
    reply_fd_ = region.doorbell_fd;
  }
  return 0;
}

int VfioUserFrontEnd::HandleGetIrqInfo(const Message& message) {
  vfio_irq_info info;
  if (!message.Copy(&info) || info.argsz < sizeof info ||
      info.index >= VFIO_PCI_NUM_IRQS) {
    return EINVAL;
  }
  info.argsz = sizeof info;
  info.flags = VFIO_IRQ_INFO_EVENTFD;
  info.count = 1;
  if (const InterruptKind kind = KindOf(info.index);
      kind != INTERRUPT_KIND_UNSPECIFIED) {
    info.count = device_.VectorCount(kind);
    info.flags |= kind == INTX
                      ? VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED
                      : VFIO_IRQ_INFO_NORESIZE;
  }
  AppendReply(info);
  return 0;
}

// linux/vfio.h, VFIO_DEVICE_SET_IRQS: one kind of data, one action, and a range
// that the index has. Count 0 with DATA_NONE and TRIGGER disables the index.
int VfioUserFrontEnd::HandleSetIrqs(Message& message) {
  vfio_irq_set set;
  if (!message.Copy(&set) || set.index >= VFIO_PCI_NUM_IRQS) {
    return EINVAL;
  }
  const uint32_t data = set.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  const uint32_t action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  const bool one_each = __builtin_popcount(data) == 1 &&
                        __builtin_popcount(action) == 1 &&
                        set.flags == (data | action);
  if (!one_each) return EINVAL;

  const InterruptKind kind = KindOf(set.index);
  // Notifiers are accepted and never used: an error would make QEMU stop the
  // whole VM.
  if (kind == INTERRUPT_KIND_UNSPECIFIED) {
    return set.start == 0 && set.count <= 1 ? 0 : EINVAL;
  }
  const uint32_t vectors = device_.VectorCount(kind);
  if (set.start > vectors || set.count > vectors - set.start) return EINVAL;

  const absl::Span<const uint8_t> bools = message.payload.subspan(sizeof set);
  if (data == VFIO_IRQ_SET_DATA_BOOL && bools.size() < set.count) {
    return EINVAL;
  }
  if (data == VFIO_IRQ_SET_DATA_EVENTFD && !message.fds.empty() &&
      message.fds.size() != set.count) {
    return EINVAL;
  }
  if (set.count == 0) {
    if (action != VFIO_IRQ_SET_ACTION_TRIGGER ||
        data != VFIO_IRQ_SET_DATA_NONE) {
      return EINVAL;
    }
    device_.DisableVectors(kind);
    return 0;
  }
  if (action == VFIO_IRQ_SET_ACTION_TRIGGER) {
    if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
      return device_.SetVectors(kind, set.start, set.count, message.fds)
                 ? 0
                 : EINVAL;
    }
    for (uint32_t i = 0; i < set.count; ++i) {
      if (data == VFIO_IRQ_SET_DATA_BOOL && bools[i] == 0) continue;
      device_.Trigger(kind, set.start + i);
    }
    return 0;
  }
  // MASK and UNMASK, which only INTx has; an eventfd that does it by itself
  // only to unmask.
  const bool unmask = action == VFIO_IRQ_SET_ACTION_UNMASK;
  if (kind != INTX) return ENOTTY;
  if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
    if (!unmask) return ENOTTY;
    device_.SetIntxUnmaskFd(message.TakeFd(0));
  } else if (data == VFIO_IRQ_SET_DATA_NONE || bools[0] != 0) {
    device_.MaskIntx(!unmask);
  }
  return 0;
}

int VfioUserFrontEnd::HandleRegionRead(const Message& message) {
  vfio_user::RegionAccess access;
  if (!message.Copy(&access) || access.count > kMaxTransferBytes) {
    return EINVAL;
  }
  AppendReply(access);
  const absl::Span<uint8_t> data(&reply_[reply_bytes_], access.count);
  if (!device_.Read(access.region, access.offset, data)) return EINVAL;
  reply_bytes_ += access.count;
  return 0;
}

int VfioUserFrontEnd::HandleRegionWrite(const Message& message) {
  vfio_user::RegionAccess access;
  if (!message.Copy(&access) ||
      message.payload.size() - sizeof access < access.count) {
    return EINVAL;
  }
  const absl::Span<const uint8_t> data =
      message.payload.subspan(sizeof access, access.count);
  if (!device_.Write(access.region, access.offset, data)) return EINVAL;
  AppendReply(access);
  return 0;
}

int VfioUserFrontEnd::HandleWriteMulti(const Message& message) {
  uint64_t count;
  if (!message.Copy(&count)) return EINVAL;
  absl::Span<const uint8_t> rest = message.payload.subspan(sizeof count);
  if (count > rest.size() / sizeof(vfio_user::MultiWrite)) return EINVAL;
  for (uint64_t done = 0; done < count; ++done) {
    vfio_user::MultiWrite write;
    if (!CopyFront(rest, &write)) return EINVAL;
    rest.remove_prefix(sizeof write);
    if (write.count > sizeof write.data ||
        !device_.Write(write.region, write.offset, {write.data, write.count})) {
      return EINVAL;
    }
  }
  AppendReply(count);
  return 0;
}

}  // namespace bulkhead::proxy

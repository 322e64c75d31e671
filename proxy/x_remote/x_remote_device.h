// XRemoteDevice is a device that lives in a remote process of QEMU's own
// (-machine x-remote): it plays x-pci-proxy-dev's part towards that process, so
// that any front end, vfio-user's first of all, can show the device to a guest.
//
// What the protocol cannot carry, the guest does not see: capabilities (MSI and
// MSI-X among them) are hidden, and interrupts are INTx.
//
// TRUST    The remote process is hostile: its replies are counted, never
//          believed beyond their one value, and what the protocol does not
//          allow loses the device. It reads and writes the guest's RAM.
// ERRORS   Probe: the process does not answer as a PCI device. Later as
//          DevicePort: a device that is lost reads as ~0.
// THREADS  One thread. Nothing is allocated once probed.
//
// Slow: an answer did not come by its deadline. Until all that is owed has been
// answered, nothing waits: loads are ~0 at once, stores are queued in the
// socket, and one that fills it loses the device. The protocol numbers nothing:
// answers come in the order of the questions.

#ifndef BULKHEAD_PROXY_X_REMOTE_X_REMOTE_DEVICE_H_
#define BULKHEAD_PROXY_X_REMOTE_X_REMOTE_DEVICE_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/fd.h"
#include "proxy/bar_map.h"
#include "proxy/device_port.h"
#include "proxy/memory_table.h"
#include "proxy/message_stream.h"
#include "proxy/mpqemu.h"
#include "proxy/ram_identity.h"

namespace bulkhead::proxy {

struct XRemoteDeadlines {
  uint64_t access_ns = 75'000'000;
  uint64_t reset_ns = 500'000'000;
};

class XRemoteDevice : public DevicePort {
 public:
  // Takes `socket`, connected to the process's x-remote-object, over; `ram_fd`
  // outlives this object.
  XRemoteDevice(int socket, int ram_fd, const RamIdentity& ram,
                const XRemoteDeadlines& deadlines);
  XRemoteDevice(const XRemoteDevice&) = delete;
  XRemoteDevice& operator=(const XRemoteDevice&) = delete;

  // Learns what the device is. QEMU answers when it has started: so long it
  // may take.
  absl::Status Probe(uint64_t patience_ns);

  // To wait on for POLLIN; -1: the device is lost.
  int fd() const { return socket_.get(); }
  // Takes what has come: late answers, or the process's end.
  void Poll();

  bool lost() const { return !socket_.valid(); }
  const std::string& loss() const { return loss_; }

  bool Available() const override { return !lost(); }
  const RegionShape& Region(uint32_t region) const override;
  uint32_t VectorCount(InterruptKind kind) const override;
  bool Read(uint32_t region, uint64_t offset,
            absl::Span<uint8_t> data) override;
  bool Write(uint32_t region, uint64_t offset,
             absl::Span<const uint8_t> data) override;
  bool Map(uint64_t address, uint64_t size_bytes, uint64_t file_offset,
           bool readable, bool writable, int fd) override;
  bool Unmap(uint64_t address, uint64_t size_bytes) override;
  void UnmapAll() override;
  bool SetVectors(InterruptKind kind, uint32_t first, uint32_t count,
                  absl::Span<Fd> fds) override;
  void DisableVectors(InterruptKind kind) override;
  bool Trigger(InterruptKind kind, uint32_t vector) override;
  void MaskIntx(bool masked) override;
  void SetIntxUnmaskFd(Fd fd) override;
  void Reset() override;
  void Detach() override;

 private:
  using Stream = MessageStream<mpqemu::Wire>;

  void Lose(absl::string_view why);
  // One message; true if it is under way. An answer is owed for what asks.
  bool Send(mpqemu::Command command, absl::Span<const uint8_t> body,
            absl::Span<const int> fds);
  // Sends and waits; ~0 when there is no answer in time.
  uint64_t Ask(mpqemu::Command command, absl::Span<const uint8_t> body,
               uint64_t patience_ns);
  // Takes one answer that has come; false: none has.
  bool TakeAnswer(uint64_t* value);
  // Until nothing is owed; false: not by then, or the device is lost.
  bool Await(uint64_t deadline, uint64_t* last);

  absl::Status ProbeAll();
  uint64_t AskConfig(uint32_t offset, uint32_t size_bytes);
  bool ProbeBar(uint32_t bar, bool* is_wide);
  bool Contains(uint32_t region, uint64_t offset, size_t size_bytes) const;
  uint64_t ReadPiece(uint32_t region, uint64_t offset, uint32_t size_bytes);
  void WritePiece(uint32_t region, uint64_t offset, uint32_t size_bytes,
                  uint64_t value);
  // Tells the memory table, if it has changed since.
  void SendMemory();
  void SendInterrupt();

  const RamIdentity ram_;
  const XRemoteDeadlines deadlines_;
  const int ram_fd_;
  uint64_t patience_ns_;  // with configuration space
  Fd socket_;
  std::string loss_;
  Stream stream_;
  uint32_t owed_ = 0;
  bool slow_ = false;

  std::array<RegionShape, kRegionLimit> regions_ = {};
  uint32_t intx_vectors_ = 0;
  BarMap bars_;
  MemoryTable memory_;
  bool memory_changed_ = false;

  // Ours, for what QEMU has given no eventfd for.
  Fd no_raise_fd_;
  Fd resample_fd_;
  Fd raise_fd_;   // QEMU's
  Fd unmask_fd_;  // KVM's, of QEMU
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_X_REMOTE_X_REMOTE_DEVICE_H_

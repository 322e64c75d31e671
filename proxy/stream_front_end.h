// StreamFrontEnd is what front ends have in common: QEMU at the other end of a
// unix stream socket, messages out of it, a reply to each. A protocol derives
// from it and handles one message at a time.
//
// TRUST    As FrontEnd. A message that Handle refuses, a stream that breaks and
//          a peer that does not take its replies end the connection.
// ERRORS   None.
// THREADS  One thread. Nothing is allocated.

#ifndef BULKHEAD_PROXY_STREAM_FRONT_END_H_
#define BULKHEAD_PROXY_STREAM_FRONT_END_H_

#include <string.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/fd.h"
#include "proxy/device_port.h"
#include "proxy/front_end.h"
#include "proxy/message_stream.h"

namespace bulkhead::proxy {

// How QEMU is reached: it connects to a listening socket, once at a time, or it
// holds the other end of this one, and then never comes back once it has gone.
enum class QemuSocket { kListening, kConnected };

template <typename Wire>
class StreamFrontEnd : public FrontEnd {
 public:
  using Message = typename MessageStream<Wire>::Message;

  int fd() const override {
    return connection_.valid() ? connection_.get() : listener_;
  }
  bool connected() const override { return connected_; }
  bool HasMore() const override { return has_more_; }

  bool Serve() override {
    if (!connected_) {
      Begin();
      return connected_;
    }
    // Messages in one Serve: so many, then the rest of the world is looked at.
    constexpr int kMessageBudget = 64;
    int served = 0;
    Message message;
    has_more_ = false;
    // One recvmsg brings what has come; more of it makes fd() readable again.
    do {
      switch (stream_.Receive(connection_.get(), &message)) {
        case MessageStream<Wire>::Next::kNothing:
          return served != 0;
        case MessageStream<Wire>::Next::kMessage:
          ++served;
          if (HandleMessage(message) && SendReply()) continue;
          break;
        case MessageStream<Wire>::Next::kClosed:
        case MessageStream<Wire>::Next::kBroken:
          break;
      }
      Disconnect();
      return true;
    } while (stream_.HasBytes() && served < kMessageBudget);
    has_more_ = stream_.HasBytes();
    return true;
  }

  // One message: what Serve does with each. Leaves the reply, if one is due, in
  // reply(); false when the connection must end. Public for tests.
  bool HandleMessage(Message& message) {
    reply_bytes_ = 0;
    reply_fd_ = -1;
    return Handle(message);
  }
  absl::Span<const uint8_t> reply() const {
    return {reply_.data(), reply_bytes_};
  }

 protected:
  // `socket` and `device` outlive this object; a connected socket is its own.
  StreamFrontEnd(int socket, QemuSocket kind, DevicePort& device)
      : device_(device),
        listener_(kind == QemuSocket::kListening ? socket : -1),
        connection_(kind == QemuSocket::kConnected ? socket : -1) {}

  virtual bool Handle(Message& message) = 0;
  // A QEMU has come; what the last one agreed on is void.
  virtual void OnConnected() {}

  template <typename T>
  void AppendReply(const T& part) {
    memcpy(&reply_[reply_bytes_], &part, sizeof part);
    reply_bytes_ += sizeof part;
  }

  DevicePort& device_;
  std::array<uint8_t, Wire::kMaxMessageBytes> reply_;
  size_t reply_bytes_ = 0;
  int reply_fd_ = -1;  // rides on the reply; the device's

 private:
  void Begin() {
    if (listener_ >= 0) {
      connection_ = Fd(
          accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    }
    connected_ = connection_.valid();
    if (connected_) OnConnected();
  }

  void Disconnect() {
    connection_.Close();
    connected_ = false;
    has_more_ = false;
    stream_.Clear();
    device_.Detach();
  }

  bool SendReply() {
    return SendBytes(connection_.get(), reply(),
                     {&reply_fd_, static_cast<size_t>(reply_fd_ >= 0 ? 1 : 0)},
                     kReplyPatience);
  }

  const int listener_;
  Fd connection_;
  bool connected_ = false;
  bool has_more_ = false;
  MessageStream<Wire> stream_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_STREAM_FRONT_END_H_

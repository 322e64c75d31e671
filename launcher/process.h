// Process is one jailed child while it lives: its fds, its control channel, its
// end.
//
// TRUST    Everything that comes from the child is hostile: frames are checked
//          by Channel and by type, and a child that breaks the protocol is
//          killed. What it says in words is handed on, never looked at.
// ERRORS   Start: what sandbox::Release says. Later: `failure()`.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_PROCESS_H_
#define BULKHEAD_LAUNCHER_PROCESS_H_

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "proto/channel.h"
#include "proto/launch.pb.h"
#include "sandbox/step.h"
#include "sandbox/violation.h"

namespace bulkhead::launcher {

class Process {
 public:
  // Gets what the child sends and Process does not use itself.
  using OnFrame = std::function<void(Process*, const Frame&)>;
  using OnEnd = std::function<void(Process*)>;

  // Of what it says in words so much is handed on, and so many times a second:
  // a flood must not keep what others have to say from the console.
  static constexpr size_t kLongestWords = 1000;
  static constexpr int kWordsPerSecond = 10;

  // Lets it go and watches it in `loop`. Null when it fails: then it is still
  // to be ended.
  static std::unique_ptr<Process> Start(const JailedProcess& planned,
                                        EventLoop* loop, OnFrame on_frame,
                                        OnEnd on_end, sandbox::Report* failure);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const JailedProcess& planned() const { return planned_; }
  // An errno where the host refuses to let it be watched for violations.
  int trace_error() const { return trace_error_; }

  bool ready() const { return ready_; }
  void set_ready() { ready_ = true; }
  bool exited() const { return end_.si_pid != 0; }
  bool ended_well() const;
  // Once it has exited.
  const siginfo_t& end() const { return end_; }
  // What it said before it failed (Fault), or what was wrong with its frames.
  const std::string& failure() const { return failure_; }
  // What a filter killed it for, or what broke it; known when it has exited.
  const sandbox::Death& death() const { return death_; }

  // Sends a frame that the caller has put into outgoing(): its sequence. What
  // does not fit into the channel is lost: 0.
  Frame& outgoing() { return control_->outgoing(); }
  bool can_send() const { return control_ != nullptr && !exited(); }
  uint64_t Send() {
    uint64_t sequence = 0;
    return control_->Send({}, &sequence).ok() ? sequence : 0;
  }

  // Tells it to end: its control channel closes.
  void CloseControl();
  void Kill();

 private:
  Process(const JailedProcess& planned, EventLoop* loop, OnFrame on_frame,
          OnEnd on_end);

  void OnControl();
  void TakeFrame(const Frame& frame);
  bool MaySpeak();
  void OnExit();
  void Fail(const std::string& why);

  const JailedProcess& planned_;
  EventLoop* const loop_;
  const OnFrame on_frame_;
  const OnEnd on_end_;
  Fd pidfd_;
  int trace_error_ = 0;
  std::unique_ptr<Channel> control_;
  bool ready_ = false;
  sandbox::Death death_;
  siginfo_t end_ = {};
  std::string failure_;
  Clock::time_point speaking_since_;
  int words_ = 0;  // in the second since then
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_PROCESS_H_

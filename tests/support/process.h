// Process runs a program as a person would, on a terminal or on pipes, and lets
// a test wait for what it prints.
//
// ERRORS   A wait that runs out answers false; the caller prints output().
// THREADS  One.

#ifndef BULKHEAD_TESTS_SUPPORT_PROCESS_H_
#define BULKHEAD_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace bulkhead::testing {

using Seconds = std::chrono::duration<double>;

class Process {
 public:
  enum class Console {
    kPipes,     // standard input is empty, output and errors go to a pipe each
    kTerminal,  // all three are a pseudo terminal, the controlling one
  };

  // Starts argv[0] in a process group of its own. Aborts the test program when
  // it cannot be started at all.
  Process(std::vector<std::string> argv, Console console = Console::kPipes);
  // Ends it with SIGKILL if it still runs, and reaps it.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Reads output until `text` appears in one of the streams, after the last
  // match in that stream. What the program prints as an error can so never
  // stand in the middle of a line of its output.
  bool WaitFor(const std::string& text, Seconds timeout);
  // Reads output for a while, or until the end of it.
  void Drain(Seconds duration);
  // Types on the terminal.
  void Type(const std::string& text);
  void Signal(int signal);
  // Ends a VM whose guest does not know how to power off: the first SIGTERM
  // asks it to, the second one does not wait for it.
  void EndAtOnce();
  // Closes the test's end of the terminal: the program gets SIGHUP.
  void CloseTerminal();

  // Reads to the end of the output and reaps. The exit status, 128 + signal
  // when killed, -1 when it does not end in time.
  int Wait(Seconds timeout);

  pid_t pid() const { return pid_; }
  bool running();
  // Everything printed until now, errors last.
  std::string output() const { return streams_[0].text + streams_[1].text; }
  // What came between the last two matches of WaitFor, match included.
  const std::string& last_match() const { return last_match_; }

  // Every living descendant, from /proc.
  std::vector<pid_t> Descendants() const;

 private:
  struct Stream {
    int fd = -1;  // -1: ended
    std::string text;
    size_t matched = 0;
  };

  bool ended() const { return streams_[0].fd < 0 && streams_[1].fd < 0; }
  // False when nothing came in time, or all has ended.
  bool ReadSome(Seconds timeout);
  static void ReadStream(Stream& stream);

  pid_t pid_ = -1;
  int terminal_ = -1;
  Stream streams_[2];  // output, errors; on a terminal the first is both
  int status_ = -1;
  bool reaped_ = false;
  std::string last_match_;
};

// The command line of a process, arguments joined by spaces; "" when gone.
std::string CommandLine(pid_t pid);
// The first of `pids` whose command line holds `text`; -1: none.
pid_t FindByCommand(const std::vector<pid_t>& pids, const std::string& text);
// Sends it a signal; false: there is none. (kill takes -1 for everybody.)
bool SignalByCommand(const std::vector<pid_t>& pids, const std::string& text,
                     int signal);
// True once no process of `pids` lives (zombies count as gone).
bool AllGone(const std::vector<pid_t>& pids, Seconds timeout);

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_SUPPORT_PROCESS_H_

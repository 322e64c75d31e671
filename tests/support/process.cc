#include "tests/support/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

Seconds Left(Clock::time_point end) {
  return std::max(Seconds(0), Seconds(end - Clock::now()));
}

Clock::time_point After(Seconds timeout) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  // Not by iterators: of a process that has just ended, reading throws.
  out << in.rdbuf();
  return out.str();
}

[[noreturn]] void Exec(const std::vector<std::string>& argv) {
  std::vector<char*> raw;
  for (const std::string& word : argv) {
    raw.push_back(const_cast<char*>(word.c_str()));
  }
  raw.push_back(nullptr);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  execvp(raw[0], raw.data());
  perror(raw[0]);
  _exit(127);
}

// The state letter and parent of a process, from /proc/PID/stat.
bool ReadStat(pid_t pid, char* state, pid_t* parent) {
  const std::string stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  const size_t end_of_name = stat.rfind(')');
  return end_of_name != std::string::npos &&
         sscanf(stat.c_str() + end_of_name + 1, " %c %d", state, parent) == 2;
}

}  // namespace

Process::Process(std::vector<std::string> argv, Console console) {
  if (console == Console::kTerminal) {
    pid_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ == 0) Exec(argv);
    fcntl(terminal_, F_SETFD, FD_CLOEXEC);
    streams_[0].fd = terminal_;
  } else {
    int output[2];
    int errors[2];
    if (pipe2(output, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      const int null = open("/dev/null", O_RDONLY);
      dup2(null, 0);
      dup2(output[1], 1);
      dup2(errors[1], 2);
      Exec(argv);
    }
    close(output[1]);
    close(errors[1]);
    streams_[0].fd = output[0];
    streams_[1].fd = errors[0];
  }
  if (pid_ < 0) abort();
}

Process::~Process() {
  if (running()) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CloseTerminal();
}

void Process::ReadStream(Stream& stream) {
  char buffer[16384];
  const ssize_t got = read(stream.fd, buffer, sizeof(buffer));
  if (got > 0) {
    stream.text.append(buffer, got);
    return;
  }
  close(stream.fd);  // EIO is a terminal's way of ending
  stream.fd = -1;
}

bool Process::ReadSome(Seconds timeout) {
  if (ended()) return false;
  pollfd ready[2] = {{.fd = streams_[0].fd, .events = POLLIN, .revents = 0},
                     {.fd = streams_[1].fd, .events = POLLIN, .revents = 0}};
  if (poll(ready, 2, static_cast<int>(timeout.count() * 1000) + 1) <= 0) {
    return false;
  }
  for (int i = 0; i < 2; ++i) {
    if (ready[i].revents != 0) ReadStream(streams_[i]);
  }
  return true;
}

bool Process::WaitFor(const std::string& text, Seconds timeout) {
  const Clock::time_point end = After(timeout);
  for (;;) {
    for (Stream& stream : streams_) {
      const size_t found = stream.text.find(text, stream.matched);
      if (found == std::string::npos) continue;
      const size_t past = found + text.size();
      last_match_ = stream.text.substr(stream.matched, past - stream.matched);
      stream.matched = past;
      return true;
    }
    if (!ReadSome(Left(end)) && (ended() || Left(end).count() <= 0)) {
      return false;
    }
  }
}

void Process::Drain(Seconds duration) {
  const Clock::time_point end = After(duration);
  while (!ended() && Left(end).count() > 0) ReadSome(Left(end));
}

void Process::Type(const std::string& text) {
  if (write(terminal_, text.data(), text.size()) < 0) perror("terminal");
}

void Process::Signal(int signal) {
  if (!reaped_) kill(pid_, signal);
}

void Process::EndAtOnce() {
  Signal(SIGTERM);
  // Two signals that are both pending would be one.
  Drain(Seconds(0.2));
  Signal(SIGTERM);
}

void Process::CloseTerminal() {
  for (Stream& stream : streams_) {
    if (stream.fd >= 0) close(stream.fd);
    stream.fd = -1;
  }
  terminal_ = -1;
}

bool Process::running() {
  if (reaped_) return false;
  int status;
  if (waitpid(pid_, &status, WNOHANG) == pid_) {
    reaped_ = true;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return !reaped_;
}

int Process::Wait(Seconds timeout) {
  const Clock::time_point end = After(timeout);
  while (running() && Left(end).count() > 0) {
    if (ended()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      ReadSome(std::min(Left(end), Seconds(0.05)));
    }
  }
  if (!reaped_) return -1;
  while (ReadSome(Seconds(0.2))) {
  }
  return status_;
}

std::vector<pid_t> Process::Descendants() const {
  std::multimap<pid_t, pid_t> children;
  if (DIR* proc = opendir("/proc")) {
    while (const dirent* entry = readdir(proc)) {
      const pid_t pid = atoi(entry->d_name);
      char state;
      pid_t parent;
      if (pid > 0 && ReadStat(pid, &state, &parent) && state != 'Z') {
        children.emplace(parent, pid);
      }
    }
    closedir(proc);
  }
  std::vector<pid_t> found = {pid_};
  for (size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto child = first; child != last; ++child) {
      found.push_back(child->second);
    }
  }
  found.erase(found.begin());
  return found;
}

std::string CommandLine(pid_t pid) {
  std::string words = ReadFile("/proc/" + std::to_string(pid) + "/cmdline");
  for (char& c : words) {
    if (c == '\0') c = ' ';
  }
  return words;
}

pid_t FindByCommand(const std::vector<pid_t>& pids, const std::string& text) {
  for (const pid_t pid : pids) {
    if (CommandLine(pid).find(text) != std::string::npos) return pid;
  }
  return -1;
}

bool SignalByCommand(const std::vector<pid_t>& pids, const std::string& text,
                     int signal) {
  const pid_t pid = FindByCommand(pids, text);
  return pid > 0 && kill(pid, signal) == 0;
}

bool AllGone(const std::vector<pid_t>& pids, Seconds timeout) {
  const Clock::time_point end = After(timeout);
  for (;;) {
    bool gone = true;
    for (const pid_t pid : pids) {
      char state;
      pid_t parent;
      if (ReadStat(pid, &state, &parent) && state != 'Z') gone = false;
    }
    if (gone) return true;
    if (Left(end).count() <= 0) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace bulkhead::testing

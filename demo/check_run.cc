#include "demo/check_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/fd.h"

namespace bulkhead::demo {
namespace {

// Reads until nobody writes to the console any more.
void ReadConsole(int pipe, int signals, pid_t child, CheckConsole* console) {
  pollfd ready[] = {{.fd = pipe, .events = POLLIN, .revents = 0},
                    {.fd = signals, .events = POLLIN, .revents = 0}};
  for (;;) {
    if (poll(ready, 2, -1) < 0 && errno != EINTR) return;
    signalfd_siginfo info;
    if (ready[1].revents != 0 &&
        read(signals, &info, sizeof(info)) == sizeof(info)) {
      kill(child, static_cast<int>(info.ssi_signo));
    }
    if (ready[0].revents == 0) continue;
    char piece[4096];
    const ssize_t got = read(pipe, piece, sizeof(piece));
    if (got <= 0) return;
    console->Add(absl::string_view(piece, got));
  }
}

}  // namespace

absl::StatusOr<int> RunCheckVm(const std::function<int()>& become_vm,
                               const std::function<void()>& let_go,
                               CheckConsole* console) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::InternalError("pipe: " + ErrnoText(errno));
  }
  const Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) return absl::InternalError("fork: " + ErrnoText(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const Fd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
    dup2(nothing.get(), STDIN_FILENO);
    dup2(write_end.get(), STDOUT_FILENO);
    _exit(become_vm());
  }
  write_end.Close();
  let_go();
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  const Fd signals(signalfd(-1, &set, SFD_CLOEXEC));
  ReadConsole(read_end.get(), signals.get(), child, console);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace bulkhead::demo

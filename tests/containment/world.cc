#include "tests/containment/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "policy/lsi53c895a.h"
#include "proto/service_fds.h"
#include "sandbox/spawn.h"

namespace bulkhead::containment {
namespace {

constexpr uid_t kServiceId = 200777;
constexpr uid_t kUser = 54321;  // who is free, when root runs the test
constexpr size_t kRamBytes = 4 << 20;
constexpr size_t kStateBytes = 1 << 20;
constexpr size_t kDiskBytes = 1 << 20;
constexpr uint64_t kMostDiskBytes = 4 << 20;
constexpr int kHandedOver = 120;  // more fds than a service may hold
constexpr uint64_t kWord = 0x0123456789abcdef;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Everything about the files in a folder.
std::string Look(const std::string& folder) {
  std::vector<std::string> lines;
  DIR* open_folder = opendir(folder.c_str());
  if (open_folder == nullptr) return "gone";
  while (const dirent* entry = readdir(open_folder)) {
    if (entry->d_name[0] == '.') continue;
    const std::string path = absl::StrCat(folder, "/", entry->d_name);
    struct stat status = {};
    lstat(path.c_str(), &status);
    lines.push_back(absl::StrCat(
        entry->d_name, " ", status.st_mode, " ", status.st_uid, " ",
        status.st_size, " ", status.st_mtim.tv_sec, ".", status.st_mtim.tv_nsec,
        " ", S_ISREG(status.st_mode) ? ReadFile(path) : ""));
  }
  closedir(open_folder);
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\n");
  return text;
}

std::string AffinityOf(pid_t pid) {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(pid, sizeof(set), &set);
  return std::string(reinterpret_cast<const char*>(&set), sizeof(set));
}

std::string StatusLine(pid_t pid, const std::string& name) {
  std::istringstream lines(ReadFile(absl::StrCat("/proc/", pid, "/status")));
  for (std::string line; std::getline(lines, line);) {
    if (absl::StartsWith(line, name + ":\t")) {
      return line.substr(name.size() + 2);
    }
  }
  return "";
}

bool SendFd(int socket, int fd) {
  char byte = 0;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  return sendmsg(socket, &message, MSG_DONTWAIT) == 1;
}

}  // namespace

// What a service holds, and the other ends.
struct World::Fds {
  int log[2] = {-1, -1};
  int channel[2] = {-1, -1};
  int control[2] = {-1, -1};
  int ram = -1;
  int state = -1;
  int disk = -1;

  ~Fds() {
    for (const int fd : {log[0], log[1], channel[0], channel[1], control[0],
                         control[1], ram, state, disk}) {
      if (fd >= 0) close(fd);
    }
  }
  std::vector<sandbox::FdAssignment> Table(int channel_fd) const {
    return {{log[1], 0},
            {log[1], 1},
            {log[1], 2},
            {channel_fd >= 0 ? channel_fd : channel[1], kChannelFd},
            {control[1], kControlFd},
            {ram, kRamFd},
            {state, kStateFd},
            {disk, kFirstBackendFd}};
  }
};

World::World(int program_fd, bool jailed_sibling) : program_fd_(program_fd) {
  MakeFiles();
  MakeListeners();
  StartSibling(jailed_sibling);
  canary_ = Look(surroundings_.folder);
}

World::~World() {
  if (sibling_ > 0) {
    kill(sibling_, SIGKILL);
    pollfd gone = {.fd = sibling_pidfd_, .events = POLLIN, .revents = 0};
    while (poll(&gone, 1, 1) == 0) sandbox::HandleStops();
    waitpid(sibling_, nullptr, 0);
  }
  for (const int fd : {listeners_[0], listeners_[1], listeners_[2],
                       sibling_pidfd_, sibling_channel_, ram_, state_, disk_}) {
    if (fd >= 0) close(fd);
  }
  for (const char* name : {"canary", "other_disk", "listener", "new"}) {
    const std::string path = absl::StrCat(surroundings_.folder, "/", name);
    if (unlink(path.c_str()) != 0) rmdir(path.c_str());
  }
  rmdir(surroundings_.folder.c_str());
}

void World::MakeFiles() {
  char name[] = "/tmp/containment.XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  surroundings_.folder = name;
  chmod(name, 0777);
  for (const char* file : {"canary", "other_disk"}) {
    const std::string path = absl::StrCat(name, "/", file);
    std::ofstream(path) << "of another device\n";
    ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  }
}

void World::MakeListeners() {
  sockaddr_un path = {};
  path.sun_family = AF_UNIX;
  strncpy(path.sun_path,
          absl::StrCat(surroundings_.folder, "/listener").c_str(),
          sizeof(path.sun_path) - 1);
  sockaddr_un abstract = {};
  abstract.sun_family = AF_UNIX;
  surroundings_.abstract = absl::StrCat("bulkhead-containment-", getpid());
  strncpy(abstract.sun_path + 1, surroundings_.abstract.c_str(), 100);
  sockaddr_in tcp = {};
  tcp.sin_family = AF_INET;
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const struct {
    int family;
    sockaddr* address;
    size_t size;
  } addresses[] = {
      {AF_UNIX, reinterpret_cast<sockaddr*>(&path), sizeof(path)},
      {AF_UNIX, reinterpret_cast<sockaddr*>(&abstract),
       // As the attempts spell it.
       offsetof(sockaddr_un, sun_path) + surroundings_.abstract.size() + 1},
      {AF_INET, reinterpret_cast<sockaddr*>(&tcp), sizeof(tcp)},
  };
  for (int i = 0; i < 3; ++i) {
    listeners_[i] = socket(addresses[i].family,
                           SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ASSERT_EQ(bind(listeners_[i], addresses[i].address,
                   static_cast<socklen_t>(addresses[i].size)),
              0)
        << strerror(errno);
    ASSERT_EQ(listen(listeners_[i], 8), 0);
  }
  chmod(path.sun_path, 0777);
  socklen_t size = sizeof(tcp);
  getsockname(listeners_[2], reinterpret_cast<sockaddr*>(&tcp), &size);
  surroundings_.tcp_port = ntohs(tcp.sin_port);
}

namespace {

// Another number for what is looked at afterwards.
void Keep(int fd, int* kept) {
  if (*kept >= 0) close(*kept);
  *kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

}  // namespace

bool World::MakeFds(const Attempt& attempt, bool sealed, Fds* fds) {
  if (pipe2(fds->log, O_CLOEXEC | O_NONBLOCK) != 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds->channel) !=
          0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds->control) !=
          0) {
    return false;
  }
  fds->ram = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  fds->state = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  // On the host's own disk, where space can run out.
  fds->disk = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (ftruncate(fds->ram, kRamBytes) != 0 ||
      ftruncate(fds->state, kStateBytes) != 0 ||
      ftruncate(fds->disk, kDiskBytes) != 0) {
    return false;
  }
  for (const int fd : {fds->ram, fds->state}) {
    if (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
      return false;
    }
  }
  Keep(fds->ram, &ram_);
  Keep(fds->state, &state_);
  Keep(fds->disk, &disk_);
  // What taken-over neighbours hand over.
  const std::string name = attempt.name;
  if (absl::EndsWith(name, "handed_over")) {
    const int folder =
        open(surroundings_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SendFd(fds->control[0], folder);
    close(folder);
  } else if (name == "all_fds") {
    const int fd = eventfd(0, EFD_CLOEXEC);
    for (int i = 0; i < kHandedOver; ++i) SendFd(fds->control[0], fd);
    close(fd);
  }
  return true;
}

namespace {

// Reads what it says and waits for its end.
void Await(pid_t pid, int pidfd, int log, End* end) {
  pollfd gone = {.fd = pidfd, .events = POLLIN, .revents = 0};
  for (int i = 0; poll(&gone, 1, /*timeout_ms=*/2) == 0; ++i) {
    sandbox::HandleStops();
    if (i == 5000) kill(pid, SIGKILL);
  }
  end->violation = sandbox::TakeDeath(pid).violation;
  int status = 0;
  waitpid(pid, &status, 0);
  end->started = true;
  if (WIFSIGNALED(status)) end->signal = WTERMSIG(status);
  if (WIFEXITED(status)) end->status = WEXITSTATUS(status);
  char bytes[4096];
  ssize_t size;
  while ((size = read(log, bytes, sizeof(bytes))) > 0) {
    end->output.append(bytes, size);
  }
}

}  // namespace

End World::RunJailed(const Attempt& attempt, int channel_fd) {
  End end;
  Fds fds;
  if (!MakeFds(attempt, /*sealed=*/true, &fds)) return end;
  sandbox::JailSpec spec;
  spec.policy = &policy::Lsi53c895a();
  spec.program_fd = program_fd_;
  spec.arguments = {"lsi53c895a", "jailed", attempt.name};
  for (const std::string& argument : surroundings_.ToArguments()) {
    spec.arguments.push_back(argument);
  }
  spec.fds = fds.Table(channel_fd);
  spec.outside_id = kServiceId;
  spec.mapped_bytes = kRamBytes;
  spec.file_bytes = kMostDiskBytes;
  const absl::StatusOr<sandbox::Process> process = sandbox::Spawn(spec);
  if (!process.ok()) {
    end.output = std::string(process.status().message());
    return end;
  }
  Await(process->pid, process->pidfd, fds.log[0], &end);
  close(process->pidfd);
  return end;
}

namespace {

// An ordinary user's process with the same fds, and nothing else in its way.
pid_t StartFree(int program_fd, const std::vector<sandbox::FdAssignment>& table,
                std::vector<std::string> arguments) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  std::vector<int> parked;
  for (const sandbox::FdAssignment& fd : table) {
    parked.push_back(fcntl(fd.source, F_DUPFD_CLOEXEC, 300));
  }
  const int program = fcntl(program_fd, F_DUPFD_CLOEXEC, 300);
  for (size_t i = 0; i < table.size(); ++i) dup2(parked[i], table[i].target);
  if (geteuid() == 0 && (setresgid(kUser, kUser, kUser) != 0 ||
                         setresuid(kUser, kUser, kUser) != 0)) {
    _exit(9);
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  syscall(SYS_execveat, program, "", argv.data(), environment, AT_EMPTY_PATH);
  _exit(10);
}

}  // namespace

End World::RunFree(const Attempt& attempt) {
  End end;
  Fds fds;
  if (!MakeFds(attempt, /*sealed=*/false, &fds)) return end;
  std::vector<std::string> arguments = {"lsi53c895a", "free", attempt.name};
  for (const std::string& argument : surroundings_.ToArguments()) {
    arguments.push_back(argument);
  }
  const pid_t pid = StartFree(program_fd_, fds.Table(-1), arguments);
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  Await(pid, pidfd, fds.log[0], &end);
  close(pidfd);
  return end;
}

void World::StartSibling(bool jailed) {
  static const Attempt wait = {.name = "wait"};
  Fds fds;
  ASSERT_TRUE(MakeFds(wait, true, &fds));
  if (jailed) {
    sandbox::JailSpec spec;
    spec.policy = &policy::Lsi53c895a();
    spec.program_fd = program_fd_;
    spec.arguments = {"lsi53c895a", "jailed", "wait"};
    spec.fds = fds.Table(-1);
    // The same id as the other: the hardest case, as when a user starts both.
    spec.outside_id = kServiceId;
    const absl::StatusOr<sandbox::Process> process = sandbox::Spawn(spec);
    ASSERT_TRUE(process.ok()) << process.status();
    sibling_ = process->pid;
    sibling_pidfd_ = process->pidfd;
  } else {
    sibling_ =
        StartFree(program_fd_, fds.Table(-1), {"lsi53c895a", "free", "wait"});
    sibling_pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, sibling_, 0));
  }
  sibling_jailed_ = jailed;
  std::string line;
  for (int i = 0; i < 2000 && !absl::EndsWith(line, "\n"); ++i) {
    char bytes[64];
    const ssize_t size = read(fds.log[0], bytes, sizeof(bytes));
    if (size > 0) line.append(bytes, size);
    if (size <= 0) poll(nullptr, 0, 2);
    sandbox::HandleStops();
  }
  ASSERT_TRUE(absl::StartsWith(line, "ready ")) << line;
  ASSERT_TRUE(absl::SimpleAtoi(
      absl::StripAsciiWhitespace(line.substr(strlen("ready "))),
      &surroundings_.word));
  surroundings_.sibling = sibling_;
  surroundings_.launcher = getpid();
  affinity_ = AffinityOf(sibling_);
  sibling_channel_ = std::exchange(fds.channel[0], -1);
}

bool World::AskSibling(uint64_t* value) {
  *value = 0;
  if (send(sibling_channel_, value, sizeof(*value), MSG_NOSIGNAL) < 0) {
    return false;
  }
  pollfd ready = {.fd = sibling_channel_, .events = POLLIN, .revents = 0};
  for (int i = 0; i < 1000 && poll(&ready, 1, 5) == 0; ++i) {
    sandbox::HandleStops();
  }
  return recv(sibling_channel_, value, sizeof(*value), MSG_DONTWAIT) ==
         sizeof(*value);
}

std::vector<std::string> World::Changes() {
  std::vector<std::string> changes;
  if (Look(surroundings_.folder) != canary_) changes.push_back("files");
  for (const int listener : listeners_) {
    const int connection = accept(listener, nullptr, nullptr);
    if (connection < 0) continue;
    close(connection);
    changes.push_back("a connection came");
  }
  uint64_t value = 0;
  if (!AskSibling(&value)) {
    changes.push_back("the sibling is gone");
    return changes;
  }
  if (value != kWord) changes.push_back("the sibling's memory");
  errno = 0;
  if (getpriority(PRIO_PROCESS, sibling_) != 0) {
    changes.push_back("the sibling's priority");
  }
  if (AffinityOf(sibling_) != affinity_) {
    changes.push_back("the sibling's CPUs");
  }
  const std::string tracer = StatusLine(sibling_, "TracerPid");
  if (tracer != (sibling_jailed_ ? absl::StrCat(getpid()) : "0")) {
    changes.push_back("the sibling's tracer");
  }
  struct stat status = {};
  if (ram_ >= 0 && fstat(ram_, &status) == 0 && status.st_size != kRamBytes) {
    changes.push_back("the size of guest RAM");
  }
  if (state_ >= 0 && fstat(state_, &status) == 0 &&
      status.st_size != kStateBytes) {
    changes.push_back("the size of the state");
  }
  // It may be written to, and grow so far; what it takes of the host's disk is
  // counted, whatever its size says.
  constexpr uint64_t kTables = 64 << 10;  // the file system's own
  if (disk_ >= 0 && fstat(disk_, &status) == 0 &&
      (static_cast<uint64_t>(status.st_size) > kMostDiskBytes ||
       static_cast<uint64_t>(status.st_blocks) * 512 >
           kMostDiskBytes + kTables)) {
    changes.push_back("more of the host's disk than it may take");
  }
  return changes;
}

}  // namespace bulkhead::containment

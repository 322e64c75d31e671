// Looks at disk images, and changes them, without trusting them:
//
//   bazel run //tools:image -- info disk.qcow2
//   bazel run //tools:image -- map|check|read|write|zero|discard|bench|compare
//
// This side opens exactly the files that the command line names, takes QEMU's
// locks on them, and starts a jailed process that does the rest. Whatever an
// image says, no other file can be reached.

#include "policy/image.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"
#include "tools/image/report.h"
#include "tools/image/request.pb.h"
#include "vm/image_lock.h"
#include "vm/runfiles.h"
#include "vm/size.h"

ABSL_FLAG(std::string, format, "",
          "of the image: qcow2 (any version) or raw; by its name's end when "
          "not given");
ABSL_FLAG(std::vector<std::string>, backing, {},
          "its parents, nearest first: FILE or FILE:raw, with commas between");
ABSL_FLAG(std::string, key_file, "",
          "holds the password of an image with legacy AES encryption");
ABSL_FLAG(std::string, other_key_file, "", "compare: of the second image");
ABSL_FLAG(std::string, other_format, "", "compare: of the second image");
ABSL_FLAG(std::vector<std::string>, other_backing, {},
          "compare: parents of the second image");
ABSL_FLAG(bool, json, false, "print JSON");
ABSL_FLAG(uint64_t, count, 100000, "bench: requests");
ABSL_FLAG(uint64_t, depth, 1, "bench: requests at one time");
ABSL_FLAG(uint64_t, block_bytes, 4096, "bench: bytes of a request");
ABSL_FLAG(bool, write, false, "bench: overwrite the image");
ABSL_FLAG(uint32_t, workers, 2, "threads for I/O that waits");

namespace bulkhead::image_tool {
namespace {

constexpr int kUsageError = 2;
constexpr int kViolation = 148;
constexpr int kFirstImageFd = 3;
constexpr uid_t kOutsideId = 65534;

constexpr char kUsage[] =
    "image VERB IMAGE [arguments] [flags]\n"
    "  info IMAGE                     what its header says\n"
    "  map IMAGE [OFFSET LENGTH]      where the disk's parts lie\n"
    "  check IMAGE                    exit status 1: damaged\n"
    "  read IMAGE [OFFSET LENGTH]     the disk's bytes, to stdout\n"
    "  write IMAGE [OFFSET]           stdin, to the disk\n"
    "  zero IMAGE OFFSET LENGTH       discard IMAGE OFFSET LENGTH\n"
    "  bench IMAGE                    see --count, --depth, --block_bytes\n"
    "  compare IMAGE IMAGE            exit status 1: they differ\n"
    "OFFSET and LENGTH are bytes, or sizes as 64K, 1MiB, 2GiB. --help says "
    "what flags there are.";

// As the jailed side says it.
int Fail(const std::string& what) {
  Report report(/*json=*/true);
  report.Text("error", what);
  const std::string line = absl::GetFlag(FLAGS_json)
                               ? report.Finish()
                               : absl::StrCat("error: ", what, "\n");
  fputs(line.c_str(), stderr);
  return kUsageError;
}

// `bazel run` starts programs somewhere else than where the user stands.
std::string FromUser(const std::string& path) {
  const char* stands = getenv("BUILD_WORKING_DIRECTORY");
  if (stands == nullptr || path.empty() || path[0] == '/') return path;
  return absl::StrCat(stands, "/", path);
}

class Tool {
 public:
  int Run(const std::vector<std::string>& words) {
    if (words.size() < 2) return Fail(kUsage);
    std::string problem = Parse(words);
    if (problem.empty()) problem = OpenAll(words);
    if (!problem.empty()) return Fail(problem);
    return Execute();
  }

 private:
  std::string Parse(const std::vector<std::string>& words) {
    const std::string& verb = words[0];
    static constexpr const char* kVerbs[] = {"info",  "map",     "check",
                                             "read",  "write",   "zero",
                                             "bench", "discard", "compare"};
    bool known = false;
    for (const char* one : kVerbs) known |= verb == one;
    if (!known) return absl::StrCat("unknown command ", verb, "\n", kUsage);
    if ((verb == "compare") != (words.size() == 3 && verb == "compare")) {
      return "compare takes two images";
    }
    const bool needs_range = verb == "zero" || verb == "discard";
    if (needs_range && words.size() != 4) {
      return absl::StrCat(verb, " takes an offset and a length");
    }
    uint64_t numbers[2] = {0, 0};
    const size_t first_number = verb == "compare" ? 3 : 2;
    if (words.size() > first_number + 2) return "too many arguments";
    for (size_t i = first_number; i < words.size(); ++i) {
      if (!vm::ParseSize(words[i], &numbers[i - first_number])) {
        return absl::StrCat(
            words[i],
            " is not a size: a number of bytes, or one with K, MiB, "
            "GiB, ...");
      }
    }
    message_.set_verb(verb);
    message_.set_json(absl::GetFlag(FLAGS_json));
    message_.set_offset(numbers[0]);
    message_.set_length(numbers[1]);
    message_.set_count(absl::GetFlag(FLAGS_count));
    message_.set_depth(absl::GetFlag(FLAGS_depth));
    message_.set_block_bytes(absl::GetFlag(FLAGS_block_bytes));
    message_.set_write(verb == "bench" && absl::GetFlag(FLAGS_write));
    message_.set_workers(absl::GetFlag(FLAGS_workers));
    writes_ = needs_range || verb == "write" || message_.write();
    return "";
  }

  std::string OpenAll(const std::vector<std::string>& words) {
    std::string problem = OpenOne(words[1], absl::GetFlag(FLAGS_format),
                                  writes_, message_.add_image());
    if (problem.empty()) {
      problem =
          OpenKey(absl::GetFlag(FLAGS_key_file), message_.mutable_image(0));
    }
    for (const std::string& parent : absl::GetFlag(FLAGS_backing)) {
      if (problem.empty()) problem = OpenParent(parent, message_.add_image());
    }
    if (message_.verb() != "compare" || !problem.empty()) return problem;
    problem = OpenOne(words[2], absl::GetFlag(FLAGS_other_format),
                      /*writable=*/false, message_.add_other());
    if (problem.empty()) {
      problem = OpenKey(absl::GetFlag(FLAGS_other_key_file),
                        message_.mutable_other(0));
    }
    for (const std::string& parent : absl::GetFlag(FLAGS_other_backing)) {
      if (problem.empty()) problem = OpenParent(parent, message_.add_other());
    }
    return problem;
  }

  std::string OpenParent(const std::string& word, ImageFile* file) {
    const bool raw = word.size() > 4 && word.substr(word.size() - 4) == ":raw";
    return OpenOne(raw ? word.substr(0, word.size() - 4) : word,
                   raw ? "raw" : "", /*writable=*/false, file);
  }

  std::string OpenOne(const std::string& path, const std::string& format,
                      bool writable, ImageFile* file) {
    const int fd = open(FromUser(path).c_str(),
                        (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) return absl::StrCat(path, ": ", strerror(errno));
    const int locked = vm::LockImage(fd, writable);
    if (locked == EAGAIN) {
      return absl::StrCat(path, ": in use by another process");
    }
    const bool raw =
        format == "raw" ||
        (format.empty() && (path.ends_with(".raw") || path.ends_with(".img") ||
                            path.ends_with(".iso")));
    if (!format.empty() && format != "raw" && format != "qcow2" &&
        format != "qcow") {
      return absl::StrCat("unknown format ", format);
    }
    file->set_fd(kFirstImageFd + static_cast<int>(fds_.size()));
    file->set_format(raw ? RAW : QCOW2);
    file->set_name(path);
    fds_.push_back({fd, file->fd()});
    return "";
  }

  std::string OpenKey(const std::string& path, ImageFile* file) {
    if (path.empty()) return "";
    const int fd = open(FromUser(path).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return absl::StrCat(path, ": ", strerror(errno));
    file->set_key_fd(kFirstImageFd + static_cast<int>(fds_.size()));
    fds_.push_back({fd, file->key_fd()});
    return "";
  }

  int Execute() {
    const int program_fd = open(JailedProgram().c_str(), O_RDONLY | O_CLOEXEC);
    if (program_fd < 0) return Fail("tools/image/jailed_image is not built");
    int input[2];
    int output[2];
    int messages[2];
    if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0 ||
        pipe2(messages, O_CLOEXEC) != 0) {
      return Fail(strerror(errno));
    }
    fds_.push_back({input[0], 0});
    fds_.push_back({output[1], 1});
    fds_.push_back({messages[1], 2});
    const auto process = sandbox::Spawn(
        {.policy = &policy::Image(),
         .program_fd = program_fd,
         .arguments = {"image",
                       absl::WebSafeBase64Escape(message_.SerializeAsString())},
         .fds = fds_,
         .outside_id = kOutsideId});
    for (const int fd : {input[0], output[1], messages[1], program_fd}) {
      close(fd);
    }
    if (!process.ok()) return Fail(std::string(process.status().message()));
    Relay(*process, message_.verb() == "write" ? input[1] : -1, input[1],
          output[0], messages[0]);
    return Reap(*process);
  }

  // Among the runfiles, or beside us.
  static std::string JailedProgram() {
    const std::string found = vm::FindRunfile("tools/image/jailed_image");
    if (!found.empty()) return found;
    char own[4096];
    const ssize_t n = readlink("/proc/self/exe", own, sizeof(own));
    if (n <= 0) return "";
    const std::string path(own, static_cast<size_t>(n));
    return path.substr(0, path.rfind('/') + 1) + "jailed_image";
  }

  // Bytes to and from the jail until its output ends. A terminal is never
  // given what could steer it.
  void Relay(const sandbox::Process& process, int feed, int input, int output,
             int messages) {
    if (feed < 0) close(input);
    const bool plain = message_.verb() == "read" && isatty(1) == 0;
    signal(SIGPIPE, SIG_IGN);
    std::string pending;
    bool output_open = true;
    bool messages_open = true;
    bool stdin_open = true;
    while (output_open || messages_open) {
      pollfd events[] = {
          {output_open ? output : -1, POLLIN, 0},
          {messages_open ? messages : -1, POLLIN, 0},
          {feed >= 0 && stdin_open && pending.empty() ? 0 : -1, POLLIN, 0},
          {feed >= 0 && !pending.empty() ? feed : -1, POLLOUT, 0}};
      poll(events, 4, /*timeout_ms=*/100);
      sandbox::HandleStops();
      if (events[0].revents != 0) output_open = Pass(output, stdout, plain);
      if (events[1].revents != 0) {
        messages_open = Pass(messages, stderr, /*plain=*/false);
      }
      if (events[2].revents != 0) {
        char buffer[65536];
        const ssize_t n = read(0, buffer, sizeof(buffer));
        if (n > 0) pending.assign(buffer, static_cast<size_t>(n));
        if (n <= 0) {
          stdin_open = false;
          close(feed);
          feed = -1;
        }
      }
      if (events[3].revents != 0) {
        const ssize_t n = write(feed, pending.data(), pending.size());
        if (n > 0) pending.erase(0, static_cast<size_t>(n));
        if (n < 0 && errno != EAGAIN) pending.clear();
      }
    }
    (void)process;
  }

  static bool Pass(int from, FILE* to, bool plain) {
    char buffer[65536];
    const ssize_t n = read(from, buffer, sizeof(buffer));
    if (n <= 0) return n < 0 && errno == EINTR;
    for (ssize_t i = 0; !plain && i < n; ++i) {
      const auto byte = static_cast<unsigned char>(buffer[i]);
      if (!absl::ascii_isprint(byte) && byte != '\n') buffer[i] = '?';
    }
    fwrite(buffer, 1, static_cast<size_t>(n), to);
    fflush(to);
    return true;
  }

  int Reap(const sandbox::Process& process) {
    pollfd gone = {process.pidfd, POLLIN, 0};
    while (poll(&gone, 1, /*timeout_ms=*/10) == 0) sandbox::HandleStops();
    const std::optional<sandbox::Violation> violation =
        sandbox::TakeDeath(process.pid).violation;
    if (violation.has_value()) {
      fprintf(stderr, "error: the image made its reader call %s: killed\n",
              sandbox::DescribeViolation(*violation).c_str());
    }
    int status = 0;
    waitpid(process.pid, &status, 0);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (violation.has_value() || WTERMSIG(status) == SIGSYS) return kViolation;
    return Fail(
        absl::StrCat("its reader was killed by signal ", WTERMSIG(status)));
  }

  ImageToolRequest message_;
  std::vector<sandbox::FdAssignment> fds_;
  bool writes_ = false;
};

}  // namespace
}  // namespace bulkhead::image_tool

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(bulkhead::image_tool::kUsage);
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  return bulkhead::image_tool::Tool().Run(
      std::vector<std::string>(words.begin() + 1, words.end()));
}

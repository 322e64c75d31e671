#include "policy/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "policy/sha256.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

scmp_arg_cmp Comparison(const ArgumentConstraint& arg) {
  scmp_arg_cmp cmp = {};
  cmp.arg = arg.index();
  switch (arg.test_case()) {
    case ArgumentConstraint::kEquals:
      cmp.op = SCMP_CMP_EQ;
      cmp.datum_a = arg.equals();
      break;
    case ArgumentConstraint::kLessOrEqual:
      cmp.op = SCMP_CMP_LE;
      cmp.datum_a = arg.less_or_equal();
      break;
    case ArgumentConstraint::kGreaterOrEqual:
      cmp.op = SCMP_CMP_GE;
      cmp.datum_a = arg.greater_or_equal();
      break;
    case ArgumentConstraint::kMasked:
      cmp.op = SCMP_CMP_MASKED_EQ;
      cmp.datum_a = arg.masked().mask();
      cmp.datum_b = arg.masked().value();
      break;
    case ArgumentConstraint::TEST_NOT_SET:
      break;  // Check refuses it
  }
  return cmp;
}

absl::Status LibraryError(const std::string& what, int result) {
  return absl::InternalError(
      absl::StrCat("libseccomp: ", what, ": ", strerror(-result)));
}

absl::Status AddRule(scmp_filter_ctx filter, const SyscallRule& rule) {
  std::vector<scmp_arg_cmp> args;
  for (const ArgumentConstraint& arg : rule.arg()) {
    args.push_back(Comparison(arg));
  }
  const uint32_t action = rule.action() == SyscallRule::ERRNO
                              ? SCMP_ACT_ERRNO(rule.errno_value())
                              : SCMP_ACT_ALLOW;
  const int result = seccomp_rule_add_array(
      filter, action, sandbox::SyscallNumber(rule.syscall()), args.size(),
      args.data());
  return result == 0 ? absl::OkStatus() : LibraryError(rule.syscall(), result);
}

// A narrow STEADY rule says nothing in a phase that has a wider one.
bool Redundant(const Policy& policy, FilterPhase phase,
               const SyscallRule& rule) {
  return std::any_of(policy.rule().begin(), policy.rule().end(),
                     [&](const SyscallRule& other) {
                       return &other != &rule &&
                              InPhase(policy, other, phase) &&
                              other.action() == rule.action() &&
                              other.errno_value() == rule.errno_value() &&
                              Covers(other, rule);
                     });
}

absl::StatusOr<std::vector<sock_filter>> Export(scmp_filter_ctx filter) {
  const int fd = memfd_create("filter", MFD_CLOEXEC);
  if (fd < 0) return LibraryError("memfd_create", -errno);
  absl::Cleanup close_fd = [fd] { close(fd); };
  if (const int result = seccomp_export_bpf(filter, fd); result != 0) {
    return LibraryError("export", result);
  }
  const off_t size = lseek(fd, 0, SEEK_END);
  std::vector<sock_filter> code(size / sizeof(sock_filter));
  if (pread(fd, code.data(), size, 0) != size) {
    return LibraryError("export", -EIO);
  }
  return code;
}

}  // namespace

absl::StatusOr<std::vector<sock_filter>> BuildFilter(const Policy& policy,
                                                     FilterPhase phase) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) return LibraryError("init", -ENOMEM);
  absl::Cleanup release = [filter] { seccomp_release(filter); };

  // The tool may be built on another architecture than the filter is for.
  seccomp_arch_remove(filter, SCMP_ARCH_NATIVE);
  if (const int result = seccomp_arch_add(filter, SCMP_ARCH_X86_64);
      result != 0) {
    return LibraryError("x86_64", result);
  }
  if (const int result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
                                          SCMP_ACT_KILL_PROCESS);
      result != 0) {
    return LibraryError("action for other architectures", result);
  }

  uint8_t priority = 255;
  for (const SyscallRule& rule : policy.rule()) {
    if (!InPhase(policy, rule, phase) || Redundant(policy, phase, rule)) {
      continue;
    }
    if (absl::Status added = AddRule(filter, rule); !added.ok()) return added;
    if (rule.hot() && priority > 1) {
      seccomp_syscall_priority(filter, sandbox::SyscallNumber(rule.syscall()),
                               priority--);
    }
  }
  return Export(filter);
}

std::string FilterBackend() {
  const scmp_version* version = seccomp_version();
  return absl::StrCat("libseccomp ", version->major, ".", version->minor, ".",
                      version->micro);
}

namespace {

std::string FieldName(uint32_t offset) {
  if (offset == offsetof(seccomp_data, nr)) return "nr";
  if (offset == offsetof(seccomp_data, arch)) return "arch";
  if (offset >= offsetof(seccomp_data, args) && offset < sizeof(seccomp_data)) {
    const uint32_t word = (offset - offsetof(seccomp_data, args)) / 4;
    return absl::StrCat("arg", word / 2, word % 2 == 0 ? ".low" : ".high");
  }
  return absl::StrCat("data[", offset, "]");
}

std::string ActionName(uint32_t action) {
  switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_KILL_PROCESS:
      return "KILL_PROCESS";
    case SECCOMP_RET_KILL_THREAD:
      return "KILL_THREAD";
    case SECCOMP_RET_ALLOW:
      return "ALLOW";
    case SECCOMP_RET_ERRNO:
      return absl::StrCat("ERRNO(", action & SECCOMP_RET_DATA, ")");
    default:
      return absl::StrFormat("0x%x", action);
  }
}

std::string JumpTarget(size_t target) { return absl::StrFormat("%d", target); }

}  // namespace

std::string Disassemble(const std::vector<sock_filter>& filter) {
  std::string text;
  std::string loaded;  // what the accumulator holds on the straight path
  for (size_t i = 0; i < filter.size(); ++i) {
    const sock_filter& in = filter[i];
    std::string line;
    switch (in.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        loaded = FieldName(in.k);
        line = absl::StrCat("load   ", loaded);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        line = absl::StrFormat("and    0x%x", in.k);
        break;
      case BPF_RET | BPF_K:
        line = absl::StrCat("return ", ActionName(in.k));
        break;
      case BPF_JMP | BPF_JA:
        line = absl::StrCat("goto   ", JumpTarget(i + 1 + in.k));
        break;
      default: {
        const int op = BPF_OP(in.code);
        const char* sign = op == BPF_JEQ    ? "=="
                           : op == BPF_JGT  ? ">"
                           : op == BPF_JGE  ? ">="
                           : op == BPF_JSET ? "&"
                                            : "?";
        std::string value = absl::StrFormat("0x%x", in.k);
        if (loaded == "nr" && op == BPF_JEQ) {
          value = absl::StrFormat("%-3d %s", in.k, sandbox::SyscallName(in.k));
        } else if (loaded == "arch" && in.k == AUDIT_ARCH_X86_64) {
          value = "x86_64";
        }
        line = absl::StrFormat("if     %s %s then %d else %d", sign, value,
                               i + 1 + in.jt, i + 1 + in.jf);
      }
    }
    absl::StrAppendFormat(&text, "%4d  %s\n", i, line);
  }
  return text;
}

std::string FilterHash(const std::vector<sock_filter>& launch,
                       const std::vector<sock_filter>& steady) {
  Sha256 hash;
  hash.Add(launch.data(), launch.size() * sizeof(sock_filter));
  hash.Add(steady.data(), steady.size() * sizeof(sock_filter));
  return hash.Hex();
}

}  // namespace bulkhead::policy

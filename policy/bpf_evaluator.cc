#include "policy/bpf_evaluator.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace bulkhead::policy {
namespace {

absl::Status Wrong(size_t at, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("instruction ", at, ": ", what));
}

}  // namespace

absl::Status Validate(Filter filter) {
  if (filter.empty() || filter.size() > BPF_MAXINSNS) {
    return absl::InvalidArgumentError("no instructions, or too many");
  }
  for (size_t i = 0; i < filter.size(); ++i) {
    const sock_filter& in = filter[i];
    const size_t left = filter.size() - i - 1;
    switch (in.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (in.k % 4 != 0 || in.k > sizeof(seccomp_data) - 4) {
          return Wrong(i, "loads outside the call's data");
        }
        break;
      case BPF_ALU | BPF_AND | BPF_K:
      case BPF_RET | BPF_K:
        break;
      case BPF_JMP | BPF_JA:
        if (in.k >= left) return Wrong(i, "jumps outside");
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
      case BPF_JMP | BPF_JGT | BPF_K:
      case BPF_JMP | BPF_JGE | BPF_K:
      case BPF_JMP | BPF_JSET | BPF_K:
        if (in.jt >= left || in.jf >= left) return Wrong(i, "jumps outside");
        break;
      default:
        return Wrong(i, absl::StrCat("unexpected code ", in.code));
    }
  }
  if (BPF_CLASS(filter.back().code) != BPF_RET) {
    return Wrong(filter.size() - 1, "the last one does not return");
  }
  return absl::OkStatus();
}

uint32_t Evaluate(Filter filter, const seccomp_data& call) {
  uint32_t a = 0;
  for (size_t pc = 0; pc < filter.size(); ++pc) {
    const sock_filter& in = filter[pc];
    bool taken = false;
    switch (in.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&a, reinterpret_cast<const char*>(&call) + in.k, sizeof(a));
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= in.k;
        continue;
      case BPF_RET | BPF_K:
        return in.k;
      case BPF_JMP | BPF_JA:
        pc += in.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        taken = a == in.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        taken = a > in.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        taken = a >= in.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        taken = (a & in.k) != 0;
        break;
      default:
        return SECCOMP_RET_KILL_PROCESS;
    }
    pc += taken ? in.jt : in.jf;
  }
  return SECCOMP_RET_KILL_PROCESS;
}

}  // namespace bulkhead::policy

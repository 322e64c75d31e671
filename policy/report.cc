#include "policy/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "policy/explain.h"
#include "policy/filter.h"
#include "policy/lock.h"

namespace bulkhead::policy {
namespace {

std::string Escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string Cells(const char* tag, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) {
    absl::StrAppend(&row, "<", tag, ">", cell, "</", tag, ">");
  }
  return row + "</tr>\n";
}

std::string Table(const std::vector<std::string>& heads,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string table = "<div class=\"wide\">\n<table>\n<thead>" +
                      Cells("th", heads) + "</thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) table += Cells("td", row);
  return table + "</tbody>\n</table>\n</div>\n";
}

// Published policies of others, as their own files count; read at the commits
// that are named.
struct Peer {
  const char* unit;
  const char* may_call;
  const char* otherwise;
  const char* forbidden_here;  // of what no service of ours may do
  const char* source;
};

constexpr Peer kPeers[] = {
    {"crosvm, a block device's process", "78, and 2 refused", "SIGSYS trap",
     "clone3, kill, userfaultfd, memfd_create, io_uring_setup, "
     "io_uring_register, ioctl, mprotect, prctl",
     "google/crosvm, jail/seccomp/x86_64/common_device.policy at 1b3a080993c2 "
     "with block.policy at 2332e20836da"},
    {"crosvm, a SCSI device's process", "79, and 1 refused", "SIGSYS trap",
     "as above, and openat", "the same with scsi.policy at 0847a0a08725"},
    {"Firecracker, all devices in the VMM's thread", "38", "SIGSYS trap",
     "open, socket, connect, accept4, io_uring_setup, io_uring_register, ioctl",
     "firecracker-microvm/firecracker, "
     "resources/seccomp/x86_64-unknown-linux-musl.json at 01a3b57933e4: "
     "\"vmm\" "
     "38, \"api\" 27, \"vcpu\" 21 different calls"},
    {"QEMU -sandbox on, every option deny", "all but 41 that x86_64 has",
     "allowed", "most: it is a list of what is denied",
     "qemu/qemu, system/qemu-seccomp.c at 1527c6b6fa6c: 55 names, 41 of them "
     "calls of x86_64; 19 with no option but \"on\""},
};

constexpr char kStyle[] =
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;"
    "padding:0 1rem;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.7rem}h2{margin-top:2.2rem;border-bottom:2px solid #335}"
    "h3{margin-top:1.4rem}table{border-collapse:collapse;width:100%;"
    "margin:.6rem 0;table-layout:auto}"
    "th,td{border:1px solid #bbb;padding:.3rem .5rem;text-align:left;"
    "vertical-align:top}th{background:#eef1f6}"
    // On a narrow screen a table moves under the finger, and the page does not.
    ".wide{overflow-x:auto}td{min-width:2.5rem}"
    "code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}"
    "td code{display:inline-block;min-width:9rem}.ok{color:#0a5c2b;"
    "font-weight:600}.bad{color:#a40000;font-weight:600}"
    "@media print{h2{break-before:page}body{margin:0;max-width:none}}";

std::string Mark(bool good, const std::string& text) {
  return absl::StrCat("<span class=\"", good ? "ok" : "bad", "\">", text,
                      "</span>");
}

std::string Code(const std::string& text) {
  return absl::StrCat("<code>", Escape(text), "</code>");
}

bool OneFilter(const Policy& policy) {
  return policy.jail().root() == Jail::TREE;
}

std::string Proof(const ReportedPolicy& reported) {
  const auto differences =
      reported.launch.differences.size() + reported.steady.differences.size();
  return Mark(differences == 0,
              absl::StrCat(reported.launch.classes + reported.steady.classes,
                           " classes of calls proven, ",
                           reported.launch.probes + reported.steady.probes,
                           " calls asked of the kernel, ", differences,
                           " differences"));
}

std::string Summary(const std::vector<ReportedPolicy>& policies) {
  std::vector<std::vector<std::string>> rows;
  for (const ReportedPolicy& reported : policies) {
    const PolicyLock lock = MakeLock(reported.policy, reported.compiled);
    rows.push_back(
        {absl::StrCat("<a href=\"#", Escape(reported.policy.name()), "\">",
                      Escape(reported.policy.name()), "</a>"),
         absl::StrCat(lock.steady_calls()),
         absl::StrCat(lock.steady_argument_checked()),
         absl::StrCat(lock.steady_refused()), absl::StrCat(lock.launch_calls()),
         Proof(reported),
         Mark(reported.locked,
              reported.locked ? "as locked" : "differs from its lock file"),
         Code(lock.bytecode(0).sha256())});
  }
  return Table({"process", "calls while it serves",
                "of those, only with some "
                "arguments",
                "refused with an error", "calls until then", "proof",
                "lock file", "SHA-256 of both filters"},
               rows);
}

std::string Comparison(const std::vector<ReportedPolicy>& policies) {
  std::vector<std::vector<std::string>> rows;
  for (const ReportedPolicy& reported : policies) {
    if (OneFilter(reported.policy)) continue;
    const PolicyLock lock = MakeLock(reported.policy, reported.compiled);
    rows.push_back(
        {"Bulkhead, " + Escape(reported.policy.name()),
         absl::StrCat(lock.steady_calls(), ", and ", lock.steady_refused(),
                      " refused"),
         "killed",
         reported.policy.jail().host_network() ? "socket, connect" : "none",
         "this page"});
  }
  for (const Peer& peer : kPeers) {
    rows.push_back({Escape(peer.unit), Escape(peer.may_call),
                    Escape(peer.otherwise), Escape(peer.forbidden_here),
                    Escape(peer.source)});
  }
  return "<p>Different calls that a process (or thread) may make while it "
         "serves a guest, counted in each project's own published files, "
         "whatever their arguments. The units differ: a process for each "
         "device here and in crosvm, a thread for all devices in Firecracker, "
         "one process for everything in QEMU.</p>\n" +
         Table({"unit", "calls it may make", "any other call is",
                "of what no service here may do, it may", "source"},
               rows);
}

std::string Rules(const Policy& policy, Phase phase) {
  std::vector<std::vector<std::string>> rows;
  for (const SyscallRule& rule : policy.rule()) {
    if (rule.phase() != phase) continue;
    rows.push_back({Code(rule.syscall()),
                    rule.arg_size() == 0 ? "any" : Code(ConstraintsText(rule)),
                    rule.action() == SyscallRule::ERRNO
                        ? absl::StrCat("refused, errno ", rule.errno_value())
                        : "allowed",
                    Escape(rule.why())});
  }
  return rows.empty() ? "<p>None.</p>\n"
                      : Table({"call", "arguments", "", "why"}, rows);
}

std::string Fds(const Policy& policy) {
  std::vector<std::vector<std::string>> rows;
  for (const FdRule& fd : policy.fd()) {
    const uint32_t count = std::max(fd.max_count(), 1u);
    const std::string number =
        fd.received() ? "received or made"
        : count == 1  ? absl::StrCat(fd.first())
                     : absl::StrCat(fd.first(), " to ", fd.first() + count - 1);
    rows.push_back({number, Escape(fd.name()),
                    Escape(FdRule::Kind_Name(fd.kind())),
                    Escape(FdRule::Access_Name(fd.access())),
                    Escape(absl::StrJoin(fd.seals(), ", ")), Escape(fd.why())});
  }
  return Table({"fd", "name", "kind", "access", "seals", "why"}, rows);
}

std::string Limits(const Policy& policy) {
  std::vector<std::vector<std::string>> rows;
  for (const ResourceLimit& limit : policy.rlimit()) {
    rows.push_back(
        {Code(limit.name()), absl::StrCat(limit.value()), Escape(limit.why())});
  }
  return Table({"limit", "value", "why"}, rows);
}

std::string JailText(const Policy& policy) {
  const std::vector<std::string> namespaces(policy.jail().namespace_().begin(),
                                            policy.jail().namespace_().end());
  return absl::StrCat(
      "<p>Namespaces of its own: ", Escape(absl::StrJoin(namespaces, ", ")),
      ". Root: ",
      OneFilter(policy) ? "a read-only view of a runtime tree"
                        : "an empty, read-only tmpfs",
      policy.jail().device_node_size() > 0
          ? absl::StrCat(
                " that may show the device node ",
                Escape(absl::StrJoin(policy.jail().device_node(), ", ")))
          : "",
      ". Capabilities: none, in all five sets; no_new_privs. ",
      policy.jail().memory_deny_write_execute()
          ? "Memory can never become executable."
          : "It makes code, so executable memory is not refused.",
      "</p>\n");
}

std::string Verdict(const char* phase, const Verdicts& verdicts) {
  std::string text = absl::StrCat(
      "<li>", phase, ": ", verdicts.classes,
      " classes of calls, which are all calls there are, proven equal to the "
      "policy; ",
      verdicts.probes, " calls asked of the kernel: ", verdicts.allowed,
      " allowed, ", verdicts.refused, " refused, ", verdicts.killed,
      " killed; ",
      Mark(verdicts.differences.empty(),
           absl::StrCat(verdicts.differences.size(), " differences")),
      ".");
  for (const std::string& difference : verdicts.differences) {
    absl::StrAppend(&text, "<br/>difference: ", Escape(difference));
  }
  for (const std::string& exception : verdicts.exceptions) {
    absl::StrAppend(&text, "<br/>kernel exception: ", Escape(exception));
  }
  return text + "</li>\n";
}

std::string Section(const ReportedPolicy& reported) {
  const Policy& policy = reported.policy;
  std::string page = absl::StrCat(
      "<h2 id=\"", Escape(policy.name()), "\">", Escape(policy.name()),
      "</h2>\n<p>", Escape(policy.description()), "</p>\n<h3>What it can reach",
      "</h3>\n", JailText(policy), Fds(policy));
  absl::StrAppend(&page, "<h3>System calls ",
                  OneFilter(policy) ? "for all its life" : "while it serves",
                  "</h3>\n", Rules(policy, STEADY), "<h3>",
                  OneFilter(policy) ? "" : "Gone before it serves: ",
                  "set-up</h3>\n", Rules(policy, SET_UP), "<h3>",
                  OneFilter(policy) ? "" : "Gone before it serves: ",
                  "the program's start</h3>\n", Rules(policy, LAUNCH),
                  "<h3>Limits</h3>\n", Limits(policy), "<h3>Proof</h3>\n<ul>\n",
                  Verdict("launch filter", reported.launch),
                  Verdict("steady filter", reported.steady), "</ul>\n");
  return page;
}

}  // namespace

std::string ReportPage(const ReportHead& head,
                       const std::vector<ReportedPolicy>& policies) {
  std::string page = absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\" "
      "xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width\"/>\n"
      "<title>Bulkhead: policies, and their proof</title>\n<style>",
      kStyle, "</style>\n</head>\n<body>\n",
      "<h1>Bulkhead: policies, and their proof</h1>\n");
  page += Table({"made", "Bulkhead", "kernel", "filters made with"},
                {{Escape(head.date), Escape(head.version), Escape(head.kernel),
                  Escape(head.backend)}});
  page +=
      "<p>Each kind of process has one policy: the system calls that it may "
      "make, with which arguments, in which phase of its life, and why; the "
      "file descriptors that it holds; its limits; its jail. Whatever no rule "
      "allows kills the process, in every build, and so does every call "
      "through the i386 and x32 interfaces. docs/policy.md tells how the "
      "proofs work and where they end; //policy:audit compares a running VM "
      "with these policies.</p>\n<h2>Summary</h2>\n";
  page += Summary(policies);
  page += "<h2>Compared with others</h2>\n" + Comparison(policies);
  for (const ReportedPolicy& reported : policies) page += Section(reported);
  return page + "</body>\n</html>\n";
}

}  // namespace bulkhead::policy

#include "base/error.h"

#include <cctype>
#include <cstdlib>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace bulkhead {
namespace {

constexpr char kText[] = "bulkhead/text";
constexpr char kExit[] = "bulkhead/exit";

std::string Payload(const absl::Status& status, const char* key) {
  const auto payload = status.GetPayload(key);
  return payload.has_value() ? std::string(*payload) : std::string();
}

std::string Format(const UserError& error) {
  std::string text;
  if (!error.where.empty()) absl::StrAppend(&text, error.where, ": ");
  absl::StrAppend(&text, "error ", error.id, ": ", error.what, "\n");
  absl::StrAppend(&text, error.excerpt);
  if (!error.why.empty()) absl::StrAppend(&text, "  why: ", error.why, "\n");
  if (!error.fix.empty()) absl::StrAppend(&text, "  fix: ", error.fix, "\n");
  return text;
}

}  // namespace

absl::Status UserError::ToStatus() const {
  absl::Status status(absl::StatusCode::kFailedPrecondition, what);
  status.SetPayload(kText, absl::Cord(Format(*this)));
  status.SetPayload(kExit, absl::Cord(absl::StrCat(int{exit_code})));
  return status;
}

std::string FormatError(const absl::Status& status) {
  if (status.ok()) return "";
  const std::string text = Payload(status, kText);
  if (!text.empty()) return text;
  return absl::StrCat("error BH-X001: ", Escape(status.message()), "\n");
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  const std::string code = Payload(status, kExit);
  return code.empty() ? kExitInternal
                      : static_cast<ExitCode>(std::atoi(code.c_str()));
}

absl::Status Join(absl::Status first, const absl::Status& next) {
  if (first.ok()) return next;
  if (next.ok()) return first;
  const std::string text = FormatError(first) + FormatError(next);
  first.SetPayload(kText, absl::Cord(text));
  return first;
}

std::string ErrnoText(int error) {
  std::string text = std::strerror(error);
  if (!text.empty()) text[0] = static_cast<char>(std::tolower(text[0]));
  return text;
}

std::string Escape(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e) {
      out.push_back(c);
    } else {
      absl::StrAppend(&out, absl::StrFormat("\\x%02x", byte));
    }
  }
  return out;
}

}  // namespace bulkhead

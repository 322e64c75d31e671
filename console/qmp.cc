#include "console/qmp.h"

#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "nlohmann/json.hpp"

namespace bulkhead::console {
namespace {

using Json = nlohmann::json;

constexpr int kPiecesAtOnce = 16;

// The member `key` of an object, or nullptr.
const Json* Member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string Text(const Json* value) {
  const auto* text =
      value == nullptr ? nullptr : value->get_ptr<const Json::string_t*>();
  return text == nullptr ? "" : Escape(text->substr(0, 200));
}

}  // namespace

absl::Status Qmp::Read() {
  // A QEMU that never stops talking must not keep the loop from the others.
  for (int i = 0; i < kPiecesAtOnce; ++i) {
    char piece[4096];
    const ssize_t got = recv(fd_, piece, sizeof(piece), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return absl::OkStatus();
    if (got <= 0) return absl::UnavailableError("QEMU closed its monitor");
    buffer_.append(piece, got);
    size_t start = 0;
    for (size_t end; (end = buffer_.find('\n', start)) != std::string::npos;
         start = end + 1) {
      absl::Status status =
          TakeLine(absl::string_view(buffer_).substr(start, end - start));
      if (!status.ok()) return status;
    }
    buffer_.erase(0, start);
    if (buffer_.size() > kLongestLine) {
      return absl::DataLossError("an endless line on QEMU's monitor");
    }
  }
  return absl::OkStatus();
}

absl::Status Qmp::TakeLine(absl::string_view line) {
  const Json json = Json::parse(line.begin(), line.end(), nullptr,
                                /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::DataLossError("a line on QEMU's monitor is not QMP");
  }
  if (Member(json, "QMP") != nullptr && !greeted_) {
    greeted_ = true;
    Execute("qmp_capabilities");
  } else if (const Json* answer = Member(json, "return")) {
    ready_ = true;
    stuck_ |= Text(Member(*answer, "status")) == "internal-error";
  } else if (const Json* error = Member(json, "error")) {
    error_ = Text(Member(*error, "desc"));
  } else if (const Json* event = Member(json, "event")) {
    const std::string name = Text(event);
    if (name == "SHUTDOWN") {
      const Json* data = Member(json, "data");
      shutdown_reason_ = data ? Text(Member(*data, "reason")) : "";
      if (shutdown_reason_.empty()) shutdown_reason_ = "unknown";
    } else if (name == "GUEST_PANICKED") {
      panicked_ = true;
    } else if (name == "STOP") {
      Execute("query-status");  // the event does not tell why
    } else if (name == "RESET") {
      ++resets_;
    }
  }
  return absl::OkStatus();
}

void Qmp::Execute(const std::string& command) {
  const std::string line = absl::StrCat("{\"execute\": \"", command, "\"}\n");
  // A QEMU that does not drain a few dozen bytes is hung: its end is the
  // caller's time-outs' business.
  (void)send(fd_, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace bulkhead::console

#include "vm/nbd_uri.h"

#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace bulkhead::vm {
namespace {

constexpr char kRight[] =
    "nbd://HOST[:PORT][/EXPORT], or nbd+unix:///[EXPORT]?socket=PATH";
constexpr char kPort[] = "10809";

// %41 is A.
bool Unescape(std::string* text) {
  std::string out;
  for (size_t i = 0; i < text->size(); ++i) {
    if ((*text)[i] != '%') {
      out.push_back((*text)[i]);
      continue;
    }
    unsigned value = 0;
    if (i + 2 >= text->size() ||
        std::sscanf(text->c_str() + i + 1, "%2x", &value) != 1 || value == 0) {
      return false;
    }
    out.push_back(static_cast<char>(value));
    i += 2;
  }
  *text = out;
  return true;
}

absl::Status Wrong(const std::string& what) {
  return absl::InvalidArgumentError(what);
}

absl::StatusOr<NbdUri> ParseUnix(const std::string& rest) {
  NbdUri uri;
  const size_t question = rest.find("?socket=");
  if (rest.empty() || rest[0] != '/' || question == std::string::npos) {
    return Wrong(absl::StrCat("a UNIX socket is missing: ", kRight));
  }
  uri.export_name = rest.substr(1, question - 1);
  uri.socket_path = rest.substr(question + strlen("?socket="));
  if (!Unescape(&uri.export_name) || !Unescape(&uri.socket_path) ||
      uri.socket_path.find('&') != std::string::npos) {
    return Wrong(absl::StrCat("not understood: ", kRight));
  }
  if (uri.socket_path.empty() || uri.socket_path.back() == '/') {
    return Wrong(absl::StrCat("a UNIX socket is missing: ", kRight));
  }
  return uri;
}

absl::StatusOr<NbdUri> ParseTcp(const std::string& rest) {
  NbdUri uri;
  const size_t slash = rest.find('/');
  std::string host = rest.substr(0, slash);
  if (slash != std::string::npos) uri.export_name = rest.substr(slash + 1);
  if (uri.export_name.find('?') != std::string::npos ||
      !Unescape(&uri.export_name)) {
    return Wrong(absl::StrCat("not understood: ", kRight));
  }
  uri.port = kPort;
  size_t colon = host.rfind(':');
  if (!host.empty() && host[0] == '[') {  // [::1]:10809
    const size_t end = host.find(']');
    if (end == std::string::npos) return Wrong("[ without ]");
    colon = end + 1 < host.size() && host[end + 1] == ':' ? end + 1
                                                          : std::string::npos;
    uri.host = host.substr(1, end - 1);
  } else {
    uri.host = host.substr(0, colon);
  }
  if (colon != std::string::npos) uri.port = host.substr(colon + 1);
  if (uri.host.empty() || uri.port.empty() ||
      uri.port.find_first_not_of("0123456789") != std::string::npos) {
    return Wrong(absl::StrCat("a host is missing: ", kRight));
  }
  return uri;
}

}  // namespace

absl::StatusOr<NbdUri> ParseNbdUri(const std::string& uri) {
  const absl::string_view text(uri);
  const auto after = [&](absl::string_view prefix) {
    return std::string(absl::StripPrefix(text, prefix));
  };
  if (absl::StartsWith(text, "nbds")) {
    return Wrong(
        "TLS is not spoken: let a gateway on this host speak it (nbdkit nbd "
        "tls=require, or stunnel), and name its UNIX socket");
  }
  if (absl::StartsWith(text, "nbd+unix://")) {
    return ParseUnix(after("nbd+unix://"));
  }
  if (absl::StartsWith(text, "nbd://")) return ParseTcp(after("nbd://"));
  return Wrong(absl::StrCat("not an NBD URI: ", kRight));
}

}  // namespace bulkhead::vm

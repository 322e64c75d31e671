#include "services/runtime/state_file.h"

#include <errno.h>
#include <string.h>

#include <array>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "services/runtime/endian.h"
#include "services/runtime/fd_io.h"

namespace bulkhead {
namespace {

constexpr char kMagic[8] = {'B', 'H', 'S', 'T', 'A', 'T', 'E', '\n'};
constexpr uint32_t kFormatVersion = 1;

struct Header {
  std::array<char, 8> magic;
  Le32 version;
  Le32 reserved;
  std::array<char, kMaxModelBytes> model;  // padded with zeroes
  Le64 state_bytes;
  Le64 checksum;  // of the state's bytes
};
static_assert(sizeof(Header) == 64);

// FNV-1a: against torn and damaged files, not against forged ones.
uint64_t Checksum(absl::Span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const std::byte byte : bytes) {
    hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
  }
  return hash;
}

Header MakeHeader(absl::string_view model, absl::Span<const std::byte> state) {
  Header header = {};
  memcpy(header.magic.data(), kMagic, sizeof kMagic);
  header.version = kFormatVersion;
  memcpy(header.model.data(), model.data(),
         model.size() < kMaxModelBytes ? model.size() : kMaxModelBytes);
  header.state_bytes = state.size();
  header.checksum = Checksum(state);
  return header;
}

absl::Status WriteAll(int fd, const void* from, size_t size_bytes) {
  const char* at = static_cast<const char*>(from);
  while (size_bytes > 0) {
    const ssize_t written = WriteFd(fd, at, size_bytes);
    if (written <= 0) {
      return absl::InternalError(
          absl::StrCat("cannot write the state: errno ", errno));
    }
    at += written;
    size_bytes -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status ReadAll(int fd, void* to, size_t size_bytes) {
  char* at = static_cast<char*>(to);
  while (size_bytes > 0) {
    const ssize_t got = ReadFd(fd, at, size_bytes);
    if (got < 0) {
      return absl::InternalError(
          absl::StrCat("cannot read the state: errno ", errno));
    }
    if (got == 0) {
      return absl::InvalidArgumentError("the saved state ends too soon");
    }
    at += got;
    size_bytes -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteState(int fd, absl::string_view model,
                        absl::Span<const std::byte> state) {
  const Header header = MakeHeader(model, state);
  if (absl::Status status = WriteAll(fd, &header, sizeof header);
      !status.ok()) {
    return status;
  }
  return WriteAll(fd, state.data(), state.size());
}

absl::Status ReadState(int fd, absl::string_view model,
                       absl::Span<std::byte> state) {
  Header header;
  if (absl::Status status = ReadAll(fd, &header, sizeof header); !status.ok()) {
    return status;
  }
  const Header expected = MakeHeader(model, {});
  if (header.magic != expected.magic ||
      header.version != uint32_t{kFormatVersion}) {
    return absl::InvalidArgumentError("not a saved device of this version");
  }
  if (header.model != expected.model) {
    return absl::InvalidArgumentError("the saved device is of another model");
  }
  if (header.state_bytes != uint64_t{state.size()}) {
    return absl::InvalidArgumentError(
        "the saved state has another size than this device's");
  }
  if (absl::Status status = ReadAll(fd, state.data(), state.size());
      !status.ok()) {
    return status;
  }
  if (header.checksum != Checksum(state)) {
    return absl::InvalidArgumentError("the saved state is damaged");
  }
  return absl::OkStatus();
}

}  // namespace bulkhead

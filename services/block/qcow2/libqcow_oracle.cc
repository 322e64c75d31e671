#include "services/block/qcow2/libqcow_oracle.h"

#include <string.h>

#include <algorithm>

#include "services/block/qcow2/gate.h"
#include "services/block/qcow2/libqcow_io.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMemoryBytes = 96 << 20;

struct Bytes {
  std::string bytes;
  uint64_t position = 0;

  int64_t ReadAt(uint64_t at, uint8_t* to, size_t length) const {
    if (at >= bytes.size()) return 0;
    const size_t n = std::min<uint64_t>(length, bytes.size() - at);
    memcpy(to, &bytes[at], n);
    return static_cast<int64_t>(n);
  }
  uint64_t size() const { return bytes.size(); }
};

}  // namespace

struct LibqcowOracle::State {
  Gate gate{kMemoryBytes};
  Bytes image;
  libbfio_handle_t* handle = nullptr;
  libqcow_file_t* file = nullptr;
  bool opened = false;
};

LibqcowOracle::LibqcowOracle(std::string image)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.image.bytes = std::move(image);
  Gate::Entered entered(&state.gate);
  state.handle = LibqcowHandle<Bytes>::Make(&state.image);
  state.opened = state.handle != nullptr &&
                 libqcow_file_initialize(&state.file, nullptr) == 1 &&
                 libqcow_file_open_file_io_handle(
                     state.file, state.handle, LIBQCOW_OPEN_READ, nullptr) == 1;
}

LibqcowOracle::~LibqcowOracle() {
  Gate::Entered entered(&state_->gate);
  if (state_->file != nullptr) {
    libqcow_file_close(state_->file, nullptr);
    libqcow_file_free(&state_->file, nullptr);
  }
  if (state_->handle != nullptr) libbfio_handle_free(&state_->handle, nullptr);
}

bool LibqcowOracle::opened() const { return state_->opened; }

bool LibqcowOracle::Read(uint64_t offset_bytes, uint64_t length_bytes,
                         std::string* data) {
  if (!state_->opened) return false;
  Gate::Entered entered(&state_->gate);
  state_->gate.ClearNotes();
  data->assign(length_bytes, '?');
  return libqcow_file_read_buffer_at_offset(
             state_->file, data->data(), length_bytes,
             static_cast<off64_t>(offset_bytes),
             nullptr) == static_cast<ssize_t>(length_bytes) &&
         !state_->gate.inflated_short();
}

}  // namespace bulkhead::block::qcow2

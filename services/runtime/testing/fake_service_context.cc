#include "services/runtime/testing/fake_service_context.h"

#include <cstdio>
#include <cstdlib>

namespace bulkhead {

void FakeInterrupts::SetIntxLevel(bool asserted) {
  intx_edges_ += asserted && !intx_level_;
  intx_level_ = asserted;
}

int FakeInterrupts::Count(const Counts& counts, uint32_t vector) {
  const auto it = counts.find(vector);
  return it == counts.end() ? 0 : it->second;
}

FakeServiceContext::FakeServiceContext(uint64_t ram_mib)
    : memory_(GuestMemory::CreateForTest(ram_mib << 20)),
      shadow_image_(kShadowImageBytes) {}

void FakeServiceContext::Log(absl::string_view line) {
  log_.emplace_back(line.data(), line.size());
}

void FakeServiceContext::Fail(absl::string_view why) {
  std::fprintf(stderr, "device failed: %.*s\n", static_cast<int>(why.size()),
               why.data());
  std::abort();
}

std::string FakeServiceContext::ram(uint64_t address, size_t size_bytes) const {
  std::string bytes(size_bytes, '\0');
  if (!memory_.Read({address}, bytes.data(), bytes.size())) {
    std::fprintf(stderr, "ram(%#lx, %zu) is not mapped\n", address, size_bytes);
    std::abort();
  }
  return bytes;
}

void FakeServiceContext::set_ram(uint64_t address, absl::string_view bytes) {
  if (!memory_.Write({address}, bytes.data(), bytes.size())) {
    std::fprintf(stderr, "set_ram(%#lx, %zu) is not mapped\n", address,
                 bytes.size());
    std::abort();
  }
}

}  // namespace bulkhead

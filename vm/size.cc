#include "vm/size.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::vm {
namespace {

constexpr absl::string_view kPrefixes = "KMGT";

}  // namespace

bool ParseSize(absl::string_view text, uint64_t* bytes) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number)) return false;

  absl::string_view unit = text.substr(digits);
  unsigned shift = 0;
  if (!unit.empty()) {
    const size_t power = kPrefixes.find(unit[0]);
    if (power != absl::string_view::npos) {
      shift = 10 * static_cast<unsigned>(power + 1);
      unit.remove_prefix(1);
      if (unit != "" && unit != "iB") return false;
    } else if (unit != "B") {
      return false;
    }
  }
  if (number > (uint64_t{INT64_MAX} >> shift)) return false;
  *bytes = number << shift;
  return true;
}

std::string FormatSize(uint64_t bytes) {
  size_t power = 0;
  while (power < kPrefixes.size() && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++power;
  }
  if (power == 0) return absl::StrCat(bytes, "B");
  return absl::StrCat(bytes, kPrefixes.substr(power - 1, 1), "iB");
}

}  // namespace bulkhead::vm

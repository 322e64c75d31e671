// Report prints named values, for people or as one JSON object.
//
// TRUST    Values may be text of a hostile image: it is escaped.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_TOOLS_IMAGE_REPORT_H_
#define BULKHEAD_TOOLS_IMAGE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::image_tool {

// For a JSON string; what is no printable ASCII becomes \u00XX.
inline std::string Escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (absl::ascii_isprint(byte)) {
      result += c;
    } else {
      absl::StrAppend(&result, "\\u", absl::Hex(byte, absl::kZeroPad4));
    }
  }
  return result;
}

class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  void Number(const std::string& name, uint64_t value) {
    Add(name, absl::StrCat(value));
  }
  void Flag(const std::string& name, bool value) {
    Add(name, json_ ? (value ? "true" : "false") : (value ? "yes" : "no"));
  }
  void Text(const std::string& name, const std::string& value) {
    const std::string escaped = Escaped(value);
    Add(name, json_ ? absl::StrCat("\"", escaped, "\"") : escaped);
  }

  void List(const std::string& name, const std::vector<std::string>& values) {
    std::string text;
    for (const std::string& value : values) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", json_ ? "\"" : "",
                      Escaped(value), json_ ? "\"" : "");
    }
    Add(name, json_ ? absl::StrCat("[", text, "]") : text);
  }

  std::string Finish() const {
    return json_ ? absl::StrCat("{", text_, "}\n") : text_;
  }

 private:
  void Add(const std::string& name, const std::string& value) {
    if (json_) {
      absl::StrAppend(&text_, text_.empty() ? "" : ", ", "\"", name,
                      "\": ", value);
    } else {
      absl::StrAppend(&text_, name, ": ", value, "\n");
    }
  }

  const bool json_;
  std::string text_;
};

}  // namespace bulkhead::image_tool

#endif  // BULKHEAD_TOOLS_IMAGE_REPORT_H_

#include "policy/source.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace bulkhead::policy {
namespace {

using google::protobuf::TextFormat;

// Keeps the first complaint of the text format's parser.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int /*column*/, const std::string& text) override {
    if (message.empty()) {
      message = text;
      this->line = line + 1;
    }
  }

  std::string message;
  int line = 0;
};

int LineOf(const TextFormat::ParseInfoTree& lines, const char* field,
           int index) {
  const auto* descriptor = Policy::descriptor()->FindFieldByName(field);
  return lines.GetLocation(descriptor, index).line + 1;
}

absl::StatusOr<Source> ParseOne(const std::string& text,
                                const std::string& file) {
  Source source;
  FirstError error;
  TextFormat::ParseInfoTree lines;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&lines);
  if (!parser.ParseFromString(text, &source.policy)) {
    return ErrorAt({file, error.line}, "",
                   error.message + "; proto/policy.proto lists the fields");
  }
  source.where = {file, 1};
  for (int i = 0; i < source.policy.rule_size(); ++i) {
    source.rule.push_back({file, LineOf(lines, "rule", i)});
  }
  for (int i = 0; i < source.policy.fd_size(); ++i) {
    source.fd.push_back({file, LineOf(lines, "fd", i)});
  }
  for (int i = 0; i < source.policy.rlimit_size(); ++i) {
    source.rlimit.push_back({file, LineOf(lines, "rlimit", i)});
  }
  return source;
}

// What an included file says comes first, in the order of the includes.
void Prepend(const Source& part, Source& whole) {
  Policy merged = part.policy;
  merged.clear_name();
  merged.clear_description();
  // To show a device, a policy says so itself.
  if (merged.has_jail()) merged.mutable_jail()->clear_device_node();
  merged.MergeFrom(whole.policy);
  whole.policy = merged;
  whole.rule.insert(whole.rule.begin(), part.rule.begin(), part.rule.end());
  whole.fd.insert(whole.fd.begin(), part.fd.begin(), part.fd.end());
  whole.rlimit.insert(whole.rlimit.begin(), part.rlimit.begin(),
                      part.rlimit.end());
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  }
  return text.str();
}

}  // namespace

absl::Status ErrorAt(const Location& where, const std::string& field,
                     const std::string& message) {
  std::string text = absl::StrCat(where.file, ":", where.line, ": ");
  if (!field.empty()) absl::StrAppend(&text, field, ": ");
  return absl::InvalidArgumentError(absl::StrCat(text, message));
}

absl::StatusOr<Source> ParsePolicy(const std::string& text,
                                   const std::string& name) {
  absl::StatusOr<Source> source = ParseOne(text, name);
  if (source.ok() && source->policy.include_size() > 0) {
    return ErrorAt({name, 1}, "include", "not possible here");
  }
  return source;
}

absl::StatusOr<Source> LoadPolicy(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  absl::StatusOr<Source> whole = ParseOne(*text, path);
  if (!whole.ok()) return whole;

  const std::string folder = path.substr(0, path.rfind('/') + 1);
  for (int i = whole->policy.include_size() - 1; i >= 0; --i) {
    const std::string name = whole->policy.include(i);
    if (name.find('/') != std::string::npos) {
      return ErrorAt(whole->where, "include",
                     absl::StrCat(name, ": only files of the same folder"));
    }
    absl::StatusOr<std::string> part_text = ReadFile(folder + name);
    if (!part_text.ok()) {
      return ErrorAt(whole->where, "include",
                     std::string(part_text.status().message()));
    }
    absl::StatusOr<Source> part = ParseOne(*part_text, folder + name);
    if (!part.ok()) return part;
    if (part->policy.include_size() > 0) {
      return ErrorAt(part->where, "include",
                     "an included file includes nothing itself");
    }
    Prepend(*part, *whole);
  }
  whole->policy.clear_include();
  return whole;
}

std::string ToText(const Policy& policy) {
  std::string text;
  TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  printer.PrintToString(policy, &text);
  return text;
}

}  // namespace bulkhead::policy

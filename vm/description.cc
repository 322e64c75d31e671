#include "vm/description.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace bulkhead::vm {
namespace {

namespace pb = google::protobuf;
using pb::TextFormat;

// Keeps the first error: what follows it is mostly its echo.
class FirstError : public pb::io::ErrorCollector {
 public:
#if GOOGLE_PROTOBUF_VERSION >= 4022000
  void RecordError(int line, int column, absl::string_view message) override {
    Keep(line, column, std::string(message));
  }
  void RecordWarning(int, int, absl::string_view) override {}
#else
  void AddError(int line, int column, const std::string& message) override {
    Keep(line, column, message);
  }
  void AddWarning(int, int, const std::string&) override {}
#endif

  Place place;
  std::string message;

 private:
  void Keep(int line, int column, const std::string& text) {
    if (!message.empty()) return;
    place.line = std::max(line, 0);
    place.column = std::max(column, 0);
    message = text;
  }
};

// Walks the message and the parser's notes side by side.
void CollectPlaces(const pb::Message& message, TextFormat::ParseInfoTree* tree,
                   const std::string& prefix,
                   std::map<std::string, Place>* places) {
  const pb::Reflection* reflection = message.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    const int count =
        field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const int index = field->is_repeated() ? i : -1;
      std::string path = prefix + std::string(field->name());
      if (field->is_repeated()) absl::StrAppend(&path, "[", i, "]");
      const TextFormat::ParseLocation at = tree->GetLocation(field, index);
      if (at.line >= 0) (*places)[path] = Place{at.line, at.column, ""};
      if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) continue;
      TextFormat::ParseInfoTree* nested = tree->GetTreeForNested(field, index);
      if (nested == nullptr) continue;
      CollectPlaces(field->is_repeated()
                        ? reflection->GetRepeatedMessage(message, field, i)
                        : reflection->GetMessage(message, field),
                    nested, path + ".", places);
    }
  }
}

std::vector<std::string> FieldNames(const pb::Descriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->field_count(); ++i) {
    names.push_back(std::string(type->field(i)->name()));
  }
  return names;
}

// The parser points behind a name that it does not know; people look for the
// name.
void PointAtName(const std::string& message,
                 const std::vector<std::string>& lines, Place* place) {
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  if (parts.size() < 4 || place->line >= static_cast<int>(lines.size())) return;
  const size_t at = lines[place->line].rfind(parts[3], place->column);
  if (at != std::string::npos) place->column = static_cast<int>(at);
}

// For `Message type "bulkhead.VmDevice" has no field named "nvmee".`
std::string FixForUnknownField(const std::string& message) {
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  if (parts.size() < 4 || !absl::StrContains(parts[2], "has no field")) {
    return "";
  }
  const pb::Descriptor* type =
      pb::DescriptorPool::generated_pool()->FindMessageTypeByName(parts[1]);
  if (type == nullptr) return "";
  const std::vector<std::string> names = FieldNames(type);
  const std::string nearest = Nearest(parts[3], names);
  return absl::StrCat(
      nearest.empty() ? "" : absl::StrCat("did you mean ", nearest, "? "),
      type->name(), " has: ", absl::StrJoin(names, ", "));
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row[b.size()];
}

absl::Status SetError(const std::string& assignment, const std::string& what,
                      const std::string& fix) {
  return UserError{.exit_code = kExitUsage,
                   .id = "BH-U002",
                   .where = absl::StrCat("--set=", Escape(assignment)),
                   .what = what,
                   .fix = fix}
      .ToStatus();
}

// The element of a repeated message field whose `id` is `id`, or nullptr.
pb::Message* FindById(pb::Message* message, const pb::FieldDescriptor* field,
                      const std::string& id, int* index) {
  const pb::Reflection* reflection = message->GetReflection();
  for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
    pb::Message* item = reflection->MutableRepeatedMessage(message, field, i);
    const pb::FieldDescriptor* key =
        item->GetDescriptor()->FindFieldByName("id");
    if (key == nullptr) return nullptr;
    const std::string found =
        key->cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING
            ? item->GetReflection()->GetString(*item, key)
            : absl::StrCat(item->GetReflection()->GetUInt32(*item, key));
    if (found == id) {
      *index = i;
      return item;
    }
  }
  return nullptr;
}

}  // namespace

std::string Nearest(const std::string& word,
                    const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(word.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

absl::StatusOr<Description> Description::Parse(const std::string& name,
                                               const std::string& text) {
  Description description;
  description.file_name_ = name;
  description.lines_ = absl::StrSplit(text, '\n');

  FirstError error;
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&tree);
  if (!parser.ParseFromString(text, &description.spec_)) {
    PointAtName(error.message, description.lines_, &error.place);
    return UserError{.exit_code = kExitBadConfig,
                     .id = "BH-C100",
                     .where = description.Where(error.place),
                     .what = Escape(error.message),
                     .excerpt = description.Excerpt(error.place),
                     .fix = FixForUnknownField(error.message)}
        .ToStatus();
  }
  CollectPlaces(description.spec_, &tree, "", &description.places_);
  return description;
}

std::string Description::Resolve(const std::string& path) const {
  if (path.empty() || path[0] == '/' || base_.empty()) return path;
  return absl::StrCat(base_, "/", path);
}

void Description::SetByFlag(const std::string& path, const std::string& flag) {
  places_[path] = Place{-1, 0, flag};
}

absl::Status Description::Set(const std::string& assignment) {
  const std::pair<std::string, std::string> sides =
      absl::StrSplit(assignment, absl::MaxSplits('=', 1));
  const std::vector<std::string> names = absl::StrSplit(sides.first, '.');
  pb::Message* message = &spec_;
  std::string path;
  for (size_t i = 0; i < names.size(); ++i) {
    const pb::Descriptor* type = message->GetDescriptor();
    const pb::FieldDescriptor* field = type->FindFieldByName(names[i]);
    if (field == nullptr) {
      return SetError(
          assignment,
          absl::StrCat(type->name(), " has no field ", Escape(names[i])),
          absl::StrCat("it has: ", absl::StrJoin(FieldNames(type), ", ")));
    }
    absl::StrAppend(&path, i == 0 ? "" : ".", names[i]);
    if (i + 1 == names.size()) {
      FirstError error;
      TextFormat::Parser parser;
      parser.RecordErrorsTo(&error);
      if (field->is_repeated() ||
          !parser.ParseFieldValueFromString(sides.second, field, message)) {
        return SetError(
            assignment,
            absl::StrCat("not a value for ", names[i],
                         error.message.empty()
                             ? ""
                             : absl::StrCat(": ", Escape(error.message))),
            "write it as in the textproto: a number, NAME of an enum, or "
            "\"text\" in quotes");
      }
      SetByFlag(path, absl::StrCat("--set=", assignment));
      return absl::OkStatus();
    }
    if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) break;
    if (!field->is_repeated()) {
      message = message->GetReflection()->MutableMessage(message, field);
      continue;
    }
    int index = 0;
    ++i;
    message =
        i < names.size() ? FindById(message, field, names[i], &index) : nullptr;
    if (message == nullptr) {
      return SetError(assignment,
                      absl::StrCat("no such element of ", field->name()),
                      absl::StrCat(path, ".ID names the one with that id"));
    }
    absl::StrAppend(&path, "[", index, "]");
  }
  return SetError(assignment, "does not name a single field",
                  "--set=machine.vcpus=2");
}

std::string Description::Where(const Place& place) const {
  if (place.line < 0) return Escape(place.flag);
  return absl::StrCat(Escape(file_name_), ":", place.line + 1, ":",
                      place.column + 1);
}

std::string Description::Excerpt(const Place& place) const {
  if (place.line < 0 || place.line >= static_cast<int>(lines_.size())) {
    return "";
  }
  // Tabs move the column by eight (the parser's rule); spaces stand for them.
  std::string line;
  for (const char c : lines_[place.line]) {
    if (c == '\t') {
      line.append(8 - line.size() % 8, ' ');
    } else {
      line.push_back(c);
    }
  }
  constexpr size_t kLongest = 100;
  if (line.size() > kLongest) line.resize(kLongest);
  const std::string number = absl::StrFormat("%5d", place.line + 1);
  return absl::StrCat(
      number, " | ", Escape(line), "\n", std::string(number.size(), ' '), " | ",
      std::string(std::min<size_t>(place.column, kLongest), ' '), "^\n");
}

absl::Status Description::ErrorAt(const std::string& path, ExitCode exit_code,
                                  const std::string& id,
                                  const std::string& what,
                                  const std::string& fix) const {
  UserError error{.exit_code = exit_code,
                  .id = id,
                  .where = Escape(file_name_),
                  .what = absl::StrCat(path, ": ", Escape(what)),
                  .fix = fix};
  for (std::string around = path; !around.empty();) {
    const auto found = places_.find(around);
    if (found != places_.end()) {
      error.where = Where(found->second);
      error.excerpt = Excerpt(found->second);
      break;
    }
    const size_t dot = around.rfind('.');
    around = dot == std::string::npos ? "" : around.substr(0, dot);
  }
  return error.ToStatus();
}

}  // namespace bulkhead::vm

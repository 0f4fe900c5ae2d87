#include "data/source.h"

#include "base/file.h"
#include "base/log.h"

namespace halftone {

namespace fs = std::filesystem;

std::string DataSource::text(const fs::path& path) {
  std::string content = read_file(path);
  add_name(path.filename().string());
  add_name(sha256_hex(content));
  return content;
}

Json DataSource::json(const fs::path& path) { return parse_json(text(path), path.string()); }

std::vector<JsonLine> DataSource::json_lines(const fs::path& path) {
  const std::string content = text(path);
  std::vector<JsonLine> lines;
  std::string_view rest = content;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = trim_ascii(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.empty()) continue;
    std::string source = fmt::format("{}, line {}", path.string(), number);
    Json value = parse_json(line, source);
    lines.push_back({std::move(source), std::move(value)});
  }
  return lines;
}

void DataSource::add_name(std::string_view name) { hash_.update(name).update("\n"); }

fs::path find_data_file_if_any(const fs::path& folder, std::string_view task, std::string_view name) {
  for (const fs::path& path : {folder / name, folder / task / name}) {
    if (fs::is_regular_file(path)) return path;
  }
  return {};
}

fs::path find_data_file(const fs::path& folder, std::string_view task, std::string_view name) {
  fs::path path = find_data_file_if_any(folder, task, name);
  require(!path.empty(), task, "expected the file {} in {} or {}, found none", name, folder.string(),
          (folder / task).string());
  return path;
}

PictureFolder::PictureFolder(const fs::path& folder, std::span<const std::string_view> subfolders) {
  fs::path base = fs::absolute(folder).lexically_normal();
  if (!base.has_filename()) base = base.parent_path();
  for (int level = 0; level < 3; ++level, base = base.parent_path()) {
    for (const std::string_view subfolder : subfolders) places_.push_back(base / subfolder);
    places_.push_back(base);
  }
}

fs::path PictureFolder::find(const std::string& name, std::string_view source, std::string_view field) {
  const auto known = known_.find(name);
  if (known != known_.end()) return known->second;
  const fs::path relative(name);
  require(!name.empty() && relative.is_relative(), source, "field '{}': expected the name of a picture, found '{}'",
          field, name);
  for (const fs::path& place : places_) {
    fs::path path = place / relative;
    if (!fs::is_regular_file(path)) continue;
    places_ = {fs::path(place)};  // ends the life of `place`
    return known_[name] = std::move(path);
  }
  std::string searched;
  for (const fs::path& place : places_) searched += (searched.empty() ? "" : ", ") + place.string();
  fail(source, "field '{}': expected the picture {} in {}, found none", field, name, searched);
}

PictureFolder coco_pictures(const fs::path& folder, std::string_view subset) {
  const std::string nested = "images/" + std::string(subset);
  const std::string_view subfolders[] = {subset, "images", nested};
  return PictureFolder(folder, subfolders);
}

namespace {

const Json& existing_field(const Json& object, std::string_view field, std::string_view source) {
  require(object.is_object(), source, "expected an object with the field '{}', found {}", field, object.type_name());
  const auto it = object.find(field);
  require(it != object.end(), source, "field '{}': missing", field);
  return *it;
}

[[noreturn]] void refuse(const Json& value, std::string_view field, std::string_view expected,
                         std::string_view source) {
  fail(source, "field '{}': expected {}, found {}", field, expected,
       value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
}

}  // namespace

// The arguments of require() are made even when it holds, and what is shown here may be large.

std::string id_field(const Json& object, std::string_view field, std::string_view source) {
  const Json& value = existing_field(object, field, source);
  if (value.is_string() && !value.get_ref<const std::string&>().empty()) return value.get<std::string>();
  if (!value.is_number_integer()) refuse(value, field, "a whole number or a string", source);
  return value.dump();
}

std::int64_t index_field(const Json& object, std::string_view field, std::string_view source) {
  const Json& value = existing_field(object, field, source);
  const bool good = value.is_number_unsigned() && value.get<std::uint64_t>() <= 1ull << 62;
  if (!good) refuse(value, field, "a non-negative whole number", source);
  return value.get<std::int64_t>();
}

std::string text_field(const Json& object, std::string_view field, std::string_view source) {
  const Json& value = existing_field(object, field, source);
  if (!value.is_string()) refuse(value, field, "a string", source);
  return value.get<std::string>();
}

const Json& array_field(const Json& object, std::string_view field, std::string_view source) {
  const Json& value = existing_field(object, field, source);
  if (!value.is_array()) refuse(value, field, "an array", source);
  return value;
}

void note_row_count(TaskData& data, std::string_view what, std::size_t found, std::size_t published) {
  if (found == published) return;
  data.notes.push_back(fmt::format("{}: {} {}, the published data have {}", data.name, found, what, published));
  log_warning("{}", data.notes.back());
}

std::string_view trim_ascii(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace halftone

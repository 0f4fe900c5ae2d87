#pragma once
// What the readers share: finding files, reading them into one content hash, finding pictures, fields with good errors.

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/json.h"
#include "data/sample.h"

namespace halftone {

struct JsonLine {
  std::string source;  // "file, line 7", for errors
  Json value;
};

// Reads files and remembers what it read.
class DataSource {
 public:
  std::string text(const std::filesystem::path& path);
  Json json(const std::filesystem::path& path);
  // Blank lines are skipped.
  std::vector<JsonLine> json_lines(const std::filesystem::path& path);
  // Names, such as those of pictures, that belong to the identity of the data.
  void add_name(std::string_view name);
  // SHA-256 of all that was read. Call once.
  std::string hash() { return hash_.hex(); }

 private:
  Sha256 hash_;
};

// The first of folder/name and folder/task/name that exists. Throws Error naming both places.
std::filesystem::path find_data_file(const std::filesystem::path& folder, std::string_view task, std::string_view name);
// The same, empty when there is none.
std::filesystem::path find_data_file_if_any(const std::filesystem::path& folder, std::string_view task,
                                            std::string_view name);

// A folder of pictures that is found with the first picture asked for.
class PictureFolder {
 public:
  // Looks in `subfolders` of `folder` and of the two folders around it, in this order, and in these folders themselves.
  PictureFolder(const std::filesystem::path& folder, std::span<const std::string_view> subfolders);
  // The path of an existing picture. `source` and `field` tell where the name comes from, for the error.
  std::filesystem::path find(const std::string& name, std::string_view source, std::string_view field);

 private:
  std::vector<std::filesystem::path> places_;
  std::map<std::string, std::filesystem::path> known_;
};

// The places of COCO pictures (readers.h).
PictureFolder coco_pictures(const std::filesystem::path& folder, std::string_view subset = "val2014");

// A field that is a whole number, or a string, as text. Throws Error for anything else.
std::string id_field(const Json& object, std::string_view field, std::string_view source);
// A field that is a non-negative whole number.
std::int64_t index_field(const Json& object, std::string_view field, std::string_view source);
// A field that is a string.
std::string text_field(const Json& object, std::string_view field, std::string_view source);
// A field that is an array.
const Json& array_field(const Json& object, std::string_view field, std::string_view source);

// Warns, and notes in `data`, when `found` rows are not the published number.
void note_row_count(TaskData& data, std::string_view what, std::size_t found, std::size_t published);

// Without Unicode: space, tab, line feed and carriage return at both ends removed.
std::string_view trim_ascii(std::string_view text);

}  // namespace halftone

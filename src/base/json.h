#pragma once
// JSON and YAML files with errors that name the file and the field.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace halftone {

using Json = nlohmann::json;  // keys sorted, found in logarithmic time
using OrderedJson =
    nlohmann::ordered_json;  // keys as they came, found in linear time: for files that are written again

// Parses text; `source` (usually the file's path) names it in errors. Throws Error on syntax errors, nesting deeper
// than 256, and duplicate keys of one object.
Json parse_json(std::string_view text, std::string_view source);
OrderedJson parse_ordered_json(std::string_view text, std::string_view source);
Json read_json(const std::filesystem::path& path, std::uint64_t max_bytes = 1ull << 30);
OrderedJson read_ordered_json(const std::filesystem::path& path);

// A YAML document as JSON (scalars become null, bool, integer, float or string by YAML 1.2 core rules; quoted ones stay
// strings).
Json parse_yaml(std::string_view text, std::string_view source);
Json read_yaml(const std::filesystem::path& path);

// One field of an object as T. Throws Error("[source] field 'a.b': expected ..., found ...").
template <typename T, typename AnyJson>
T get_field(const AnyJson& object, std::string_view field, std::string_view source) {
  require(object.is_object(), source, "field '{}': expected an object around it, found {}", field, object.type_name());
  const auto it = object.find(field);
  require(it != object.end(), source, "field '{}': missing", field);
  try {
    return it->template get<T>();
  } catch (const nlohmann::json::exception& e) {
    fail(source, "field '{}': {}, found {}", field, e.what(), it->dump().substr(0, 80));
  }
}

// The same with a default for a field that is missing or null.
template <typename T, typename AnyJson>
T get_field_or(const AnyJson& object, std::string_view field, T fallback, std::string_view source) {
  require(object.is_object(), source, "field '{}': expected an object around it, found {}", field, object.type_name());
  const auto it = object.find(field);
  if (it == object.end() || it->is_null()) return fallback;
  return get_field<T>(object, field, source);
}

}  // namespace halftone

#include "hf/config_fields.h"

namespace halftone {
namespace {

void expect(bool condition, std::string_view field, const char* expected, const OrderedJson& found,
            std::string_view source) {
  require(condition, source, "field '{}': expected {}, found {}", field, expected, shown(found));
}

}  // namespace

const OrderedJson* find_field(const OrderedJson& object, std::string_view field, std::string_view source) {
  require(object.is_object(), source, "expected an object, found {}", shown(object));
  const auto it = object.find(field);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::optional<std::int64_t> integer_field(const OrderedJson& object, std::string_view field, std::string_view source) {
  const OrderedJson* value = find_field(object, field, source);
  if (!value) return std::nullopt;
  expect(value->is_number_integer(), field, "an integer", *value, source);
  return value->get<std::int64_t>();
}

std::optional<std::string> string_field(const OrderedJson& object, std::string_view field, std::string_view source) {
  const OrderedJson* value = find_field(object, field, source);
  if (!value) return std::nullopt;
  expect(value->is_string(), field, "a string", *value, source);
  return value->get<std::string>();
}

std::optional<bool> bool_field(const OrderedJson& object, std::string_view field, std::string_view source) {
  const OrderedJson* value = find_field(object, field, source);
  if (!value) return std::nullopt;
  expect(value->is_boolean(), field, "true or false", *value, source);
  return value->get<bool>();
}

std::vector<std::string> strings_field(const OrderedJson& object, std::string_view field, std::string_view source) {
  const OrderedJson* value = find_field(object, field, source);
  if (!value) return {};
  expect(value->is_array(), field, "a list of strings", *value, source);
  std::vector<std::string> strings;
  for (const OrderedJson& item : *value) {
    expect(item.is_string(), field, "a list of strings", item, source);
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

}  // namespace halftone

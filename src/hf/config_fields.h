#pragma once
// Fields of a quantization configuration, read strictly: a number in quotes or 4.5 bits are errors.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"

namespace halftone {

// The field, or nothing when it is missing or null. Throws Error unless `object` is an object.
const OrderedJson* find_field(const OrderedJson& object, std::string_view field, std::string_view source);
// nullopt when missing or null; Error when it has another type.
std::optional<std::int64_t> integer_field(const OrderedJson& object, std::string_view field, std::string_view source);
std::optional<std::string> string_field(const OrderedJson& object, std::string_view field, std::string_view source);
std::optional<bool> bool_field(const OrderedJson& object, std::string_view field, std::string_view source);
// Empty when missing or null.
std::vector<std::string> strings_field(const OrderedJson& object, std::string_view field, std::string_view source);

}  // namespace halftone

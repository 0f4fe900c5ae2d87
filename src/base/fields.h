#pragma once
// Strict reading of configuration files: an object that knows its file and its place in it, so that every error names
// both.

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json.h"

namespace halftone {

// A value for messages: at most 80 characters of it; of a list or an object only that it is one.
std::string shown(const Json& value);
std::string shown(const OrderedJson& value);

// Whether the value is a T as it stands: 4.0 and "4" are no whole numbers, 300 fits no std::uint8_t.
template <typename T, typename AnyJson>
bool holds(const AnyJson& value) {
  if constexpr (std::is_same_v<T, AnyJson>) {
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_integral_v<T>) {
    if (value.is_number_unsigned()) return std::in_range<T>(value.template get<std::uint64_t>());
    return value.is_number_integer() && std::in_range<T>(value.template get<std::int64_t>());
  } else if constexpr (std::is_floating_point_v<T>) {
    return value.is_number();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return value.is_string();
  } else {
    return value.is_array() && std::all_of(value.begin(), value.end(),
                                           [](const AnyJson& item) { return holds<typename T::value_type>(item); });
  }
}

// What holds<T>() expects, in words.
template <typename T>
std::string_view type_in_words() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::is_signed_v<T> ? "an integer" : "an integer from 0";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a string";
  } else {
    return "a list";
  }
}

// A view of one object: what it views must outlive it. All errors read "[source] field 'a.b[1].c': expected ..., found
// ...". A field that is null counts as missing.
template <typename AnyJson>
class BasicFields {
 public:
  // `path` is empty for the whole file. Throws Error unless `object` is an object.
  BasicFields(const AnyJson& object, std::string source, std::string path = "");

  // Throws Error for a key that is not one of these.
  void allow_only(std::initializer_list<std::string_view> keys) const;

  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Null when it is missing.
  const AnyJson* find(std::string_view key) const;
  // Throws Error when it is missing.
  const AnyJson& at(std::string_view key) const;

  template <typename T>
  T get(std::string_view key) const {
    const AnyJson& value = at(key);
    if (!holds<T>(value)) refuse(key, type_in_words<T>(), value);
    return value.template get<T>();
  }
  template <typename T>
  T get_or(std::string_view key, T fallback) const {
    return has(key) ? get<T>(key) : fallback;
  }
  // A string that is not empty.
  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string fallback) const;
  // An integer in [least, most].
  std::int64_t count(std::string_view key, std::int64_t least, std::int64_t most = kMost) const;
  std::int64_t count_or(std::string_view key, std::int64_t fallback, std::int64_t least,
                        std::int64_t most = kMost) const;
  // A number in [least, most].
  double number_or(std::string_view key, double fallback, double least, double most) const;
  // A finite number in (0, most].
  double positive_or(std::string_view key, double fallback, double most = std::numeric_limits<double>::max()) const;
  BasicFields object(std::string_view key) const;
  // The objects of a list.
  std::vector<BasicFields> objects(std::string_view key) const;

  const std::string& source() const { return source_; }
  // "a.b" for the key "b" of the object "a".
  std::string place(std::string_view key) const;
  const std::string& place() const { return path_; }
  [[noreturn]] void refuse(std::string_view key, std::string_view expected, const AnyJson& found) const;

 private:
  static constexpr std::int64_t kMost = std::int64_t{1} << 62;

  const AnyJson* object_;
  std::string source_, path_;
};

using Fields = BasicFields<Json>;
using OrderedFields = BasicFields<OrderedJson>;

}  // namespace halftone

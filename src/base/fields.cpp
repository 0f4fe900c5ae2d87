#include "base/fields.h"

#include <fmt/ranges.h>

namespace halftone {
namespace {

template <typename AnyJson>
std::string show(const AnyJson& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return value.dump(-1, ' ', true, AnyJson::error_handler_t::replace).substr(0, 80);
}

}  // namespace

std::string shown(const Json& value) { return show(value); }

std::string shown(const OrderedJson& value) { return show(value); }

template <typename AnyJson>
BasicFields<AnyJson>::BasicFields(const AnyJson& object, std::string source, std::string path)
    : object_(&object), source_(std::move(source)), path_(std::move(path)) {
  if (object.is_object()) return;
  require(!path_.empty(), source_, "expected an object, found {}", shown(object));
  fail(source_, "field '{}': expected an object, found {}", path_, shown(object));
}

template <typename AnyJson>
void BasicFields<AnyJson>::allow_only(std::initializer_list<std::string_view> keys) const {
  for (const auto& [key, value] : object_->items()) {
    require(std::find(keys.begin(), keys.end(), key) != keys.end(), source_, "unknown key '{}': expected one of {}",
            place(key), fmt::join(keys, ", "));
  }
}

template <typename AnyJson>
const AnyJson* BasicFields<AnyJson>::find(std::string_view key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

template <typename AnyJson>
const AnyJson& BasicFields<AnyJson>::at(std::string_view key) const {
  const AnyJson* value = find(key);
  require(value != nullptr, source_, "field '{}': missing", place(key));
  return *value;
}

template <typename AnyJson>
std::string BasicFields<AnyJson>::text(std::string_view key) const {
  const AnyJson& value = at(key);
  if (!value.is_string() || value.template get_ref<const std::string&>().empty()) refuse(key, "a text", value);
  return value.template get<std::string>();
}

template <typename AnyJson>
std::string BasicFields<AnyJson>::text_or(std::string_view key, std::string fallback) const {
  return has(key) ? text(key) : std::move(fallback);
}

template <typename AnyJson>
std::int64_t BasicFields<AnyJson>::count(std::string_view key, std::int64_t least, std::int64_t most) const {
  const AnyJson& value = at(key);
  const bool good = holds<std::int64_t>(value) && value.template get<std::int64_t>() >= least &&
                    value.template get<std::int64_t>() <= most;
  if (!good && most == kMost) refuse(key, fmt::format("an integer from {}", least), value);
  if (!good) refuse(key, fmt::format("an integer from {} to {}", least, most), value);
  return value.template get<std::int64_t>();
}

template <typename AnyJson>
std::int64_t BasicFields<AnyJson>::count_or(std::string_view key, std::int64_t fallback, std::int64_t least,
                                            std::int64_t most) const {
  return has(key) ? count(key, least, most) : fallback;
}

template <typename AnyJson>
double BasicFields<AnyJson>::number_or(std::string_view key, double fallback, double least, double most) const {
  if (!has(key)) return fallback;
  const AnyJson& value = at(key);
  const bool good = value.is_number() && value.template get<double>() >= least && value.template get<double>() <= most;
  if (!good) refuse(key, fmt::format("a number from {} to {}", least, most), value);
  return value.template get<double>();
}

template <typename AnyJson>
double BasicFields<AnyJson>::positive_or(std::string_view key, double fallback, double most) const {
  if (!has(key)) return fallback;
  const AnyJson& value = at(key);
  const bool good = value.is_number() && value.template get<double>() > 0 && value.template get<double>() <= most;
  const bool bounded = most < std::numeric_limits<double>::max();
  if (!good) refuse(key, bounded ? fmt::format("a number above 0 and at most {}", most) : "a positive number", value);
  return value.template get<double>();
}

template <typename AnyJson>
BasicFields<AnyJson> BasicFields<AnyJson>::object(std::string_view key) const {
  return BasicFields(at(key), source_, place(key));
}

template <typename AnyJson>
std::vector<BasicFields<AnyJson>> BasicFields<AnyJson>::objects(std::string_view key) const {
  const AnyJson& list = at(key);
  if (!list.is_array()) refuse(key, "a list", list);
  std::vector<BasicFields> all;
  for (const AnyJson& item : list) all.emplace_back(item, source_, fmt::format("{}[{}]", place(key), all.size()));
  return all;
}

template <typename AnyJson>
std::string BasicFields<AnyJson>::place(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

template <typename AnyJson>
void BasicFields<AnyJson>::refuse(std::string_view key, std::string_view expected, const AnyJson& found) const {
  fail(source_, "field '{}': expected {}, found {}", place(key), expected, shown(found));
}

template class BasicFields<Json>;
template class BasicFields<OrderedJson>;

}  // namespace halftone

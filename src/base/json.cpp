#include "base/json.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <set>
#include <vector>

#include "base/file.h"

namespace halftone {
namespace {

constexpr int kMaxDepth = 256;

Json scalar_from_yaml(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (text == "true") return true;
  if (text == "false") return false;
  const char* end = text.data() + text.size();
  std::int64_t integer = 0;
  if (auto r = std::from_chars(text.data(), end, integer); r.ec == std::errc() && r.ptr == end) return integer;
  double real = 0;
  if (auto r = std::from_chars(text.data(), end, real); r.ec == std::errc() && r.ptr == end) return real;
  return text;
}

Json from_yaml(const YAML::Node& node, std::string_view source, int depth) {
  require(depth < kMaxDepth, source, "expected at most {} levels of nesting", kMaxDepth);
  if (node.IsScalar()) return scalar_from_yaml(node);
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const auto& item : node) list.push_back(from_yaml(item, source, depth + 1));
    return list;
  }
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& item : node) {
      const auto key = item.first.as<std::string>();
      require(!object.contains(key), source, "field '{}': given twice", key);
      object[key] = from_yaml(item.second, source, depth + 1);
    }
    return object;
  }
  return nullptr;
}

template <typename AnyJson>
AnyJson parse(std::string_view text, std::string_view source) {
  std::vector<std::set<std::string>> keys;
  const auto callback = [&](int depth, typename AnyJson::parse_event_t event, AnyJson& value) {
    require(depth < kMaxDepth, source, "expected at most {} levels of nesting", kMaxDepth);
    if (event == AnyJson::parse_event_t::object_start) keys.emplace_back();
    if (event == AnyJson::parse_event_t::object_end) keys.pop_back();
    if (event == AnyJson::parse_event_t::key) {
      const auto& key = value.template get_ref<const std::string&>();
      require(keys.back().insert(key).second, source, "field '{}': given twice", key);
    }
    return true;
  };
  try {
    return AnyJson::parse(text.begin(), text.end(), callback);
  } catch (const nlohmann::json::exception& e) {
    fail(source, "expected JSON: {}", e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) { return parse<Json>(text, source); }

OrderedJson parse_ordered_json(std::string_view text, std::string_view source) {
  return parse<OrderedJson>(text, source);
}

Json read_json(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

OrderedJson read_ordered_json(const std::filesystem::path& path) {
  return parse_ordered_json(read_file(path, 64 << 20), path.string());
}

Json parse_yaml(std::string_view text, std::string_view source) {
  try {
    return from_yaml(YAML::Load(std::string(text)), source, 0);
  } catch (const YAML::Exception& e) {
    fail(source, "expected YAML: {}", e.what());
  }
}

Json read_yaml(const std::filesystem::path& path) { return parse_yaml(read_file(path, 16 << 20), path.string()); }

}  // namespace halftone

#include "base/json.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <set>
#include <vector>

#include "base/file.h"

namespace halftone {
namespace {

constexpr std::size_t kMaxDepth = 256;
constexpr std::size_t kMaxNodes = 1'000'000;  // of a YAML file

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

// Each alias ("*name") is a copy of what it stands for, so a short file can hold a great many nodes: `left` counts down.
Json from_yaml(const YAML::Node& node, std::string_view source, std::size_t depth, std::size_t& left) {
  require(depth < kMaxDepth, source, "expected at most {} levels of nesting", kMaxDepth);
  require(left-- > 0, source, "expected at most {} values, with those that aliases repeat", kMaxNodes);
  if (node.IsScalar()) return scalar_from_yaml(node);
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const auto& item : node) list.push_back(from_yaml(item, source, depth + 1, left));
    return list;
  }
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& item : node) {
      const auto key = item.first.as<std::string>();
      require(!object.contains(key), source, "field '{}': given twice", key);
      object[key] = from_yaml(item.second, source, depth + 1, left);
    }
    return object;
  }
  return nullptr;
}

// Refuses deep nesting and duplicate keys; leaves syntax errors to the parser. A pass of its own, because the parser's
// callbacks look through the whole surrounding array at the end of each of its objects: quadratic in its length.
template <typename AnyJson>
class StructureCheck : public nlohmann::json_sax<AnyJson> {
 public:
  explicit StructureCheck(std::string_view source) : source_(source) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(typename AnyJson::number_integer_t) override { return true; }
  bool number_unsigned(typename AnyJson::number_unsigned_t) override { return true; }
  bool number_float(typename AnyJson::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(typename AnyJson::binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(std::string& key) override {
    require(keys_.back().insert(key).second, source_, "field '{}': given twice", key);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  bool enter() {
    keys_.emplace_back();
    require(keys_.size() <= kMaxDepth, source_, "expected at most {} levels of nesting", kMaxDepth);
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  std::string_view source_;
  std::vector<std::set<std::string>> keys_;  // of the objects and arrays around
};

// The parser takes a NUL byte for the end of its input.
void require_no_nul(std::string_view text, std::string_view source) {
  const std::size_t nul = text.find('\0');
  require(nul == std::string_view::npos, source, "expected JSON, found a NUL byte at byte {}", nul);
}

template <typename AnyJson>
AnyJson parse(std::string_view text, std::string_view source) {
  require_no_nul(text, source);
  StructureCheck<AnyJson> check(source);
  AnyJson::sax_parse(text.begin(), text.end(), &check);
  try {
    return AnyJson::parse(text.begin(), text.end());
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
    std::size_t left = kMaxNodes;
    return from_yaml(YAML::Load(std::string(text)), source, 0, left);
  } catch (const YAML::Exception& e) {
    fail(source, "expected YAML: {}", e.what());
  }
}

Json read_yaml(const std::filesystem::path& path) { return parse_yaml(read_file(path, 16 << 20), path.string()); }

}  // namespace halftone

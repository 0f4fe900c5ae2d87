#include "hf/safetensors_parser.h"

#include <set>
#include <utility>

#include "base/json.h"

namespace halftone {
namespace {

constexpr std::size_t kMaxRank = 16;
constexpr std::string_view kMetadata = "__metadata__";

// Receives the parser's events. The grammar has three levels: the header, one tensor (or the metadata), one list.
class HeaderHandler : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderHandler(std::string_view source) : source_(source) {}
  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return reject("null"); }
  bool boolean(bool value) override { return reject(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return reject(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return reject(text); }
  bool binary(binary_t&) override { return reject("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != 3) return reject(std::to_string(value));
    if (field_ == "shape") {
      if (value >> 62) return reject(std::to_string(value));
      require(entry_.shape.size() < kMaxRank, source_,
              "tensor '{}' field 'shape': expected at most {} dimensions, found more", name_, kMaxRank);
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      require(offsets_ < 2, source_, "tensor '{}' field 'data_offsets': expected [begin, end], found more", name_);
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    }
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == 2 && name_ == kMetadata) {
      require(header_.metadata.emplace(field_, value).second, source_, "field '__metadata__.{}': given twice", field_);
      return true;
    }
    if (level_ != 2 || field_ != "dtype") return reject("\"" + value.substr(0, 80) + "\"");
    const auto dtype = dtype_from_name(value);
    require(dtype.has_value(), source_, "tensor '{}' field 'dtype': expected a type such as BF16, found '{}'", name_,
            value.substr(0, 80));
    entry_.dtype = *dtype;
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ > 1) return reject("an object");
    ++level_;
    return true;
  }

  bool key(string_t& value) override {
    if (level_ == 1) {
      name_ = value;
      field_.clear();
      entry_ = {};
      seen_.clear();
      offsets_ = 0;
      require(name_ != kMetadata || !std::exchange(has_metadata_, true), source_, "field '{}': given twice", kMetadata);
      return true;
    }
    field_ = value;
    if (name_ == kMetadata) return true;
    require(field_ == "dtype" || field_ == "shape" || field_ == "data_offsets", source_,
            "tensor '{}': expected the fields dtype, shape and data_offsets, found '{}'", name_, field_.substr(0, 80));
    require(seen_.insert(field_).second, source_, "tensor '{}' field '{}': given twice", name_, field_);
    return true;
  }

  bool end_object() override {
    if (level_-- == 2 && name_ != kMetadata) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        require(seen_.contains(field), source_, "tensor '{}' field '{}': missing", name_, field);
      }
      require(header_.tensors.emplace(name_, std::move(entry_)).second, source_, "tensor '{}': given twice", name_);
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || (field_ != "shape" && field_ != "data_offsets") || name_ == kMetadata) return reject("a list");
    ++level_;
    return true;
  }

  bool end_array() override {
    --level_;
    require(field_ != "data_offsets" || offsets_ == 2, source_,
            "tensor '{}' field 'data_offsets': expected [begin, end], found {} numbers", name_, offsets_);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    fail(source_, "header: expected JSON, found an error at byte {}: {}", position, e.what());
  }

 private:
  bool reject(const std::string& found) {
    if (level_ == 0) fail(source_, "header: expected an object, found {}", found);
    if (level_ == 1) fail(source_, "tensor '{}': expected an object, found {}", name_, found);
    if (name_ == kMetadata) fail(source_, "field '__metadata__.{}': expected a string, found {}", field_, found);
    const char* expected = field_ == "dtype"   ? "a string"
                           : level_ == 2       ? "a list of integers"
                           : field_ == "shape" ? "integers from 0 to 2^62 - 1"
                                               : "integers of 0 or more";
    fail(source_, "tensor '{}' field '{}': expected {}, found {}", name_, field_, expected, found);
  }

  std::string_view source_;
  SafetensorsHeader header_;
  bool has_metadata_ = false;
  std::set<std::string> seen_;  // fields of this tensor
  std::string name_, field_;
  SafetensorsEntry entry_;
  int level_ = 0;
  int offsets_ = 0;
};

}  // namespace

SafetensorsHeader parse_safetensors_json(std::string_view text, std::string_view source) {
  const std::size_t nul = text.find('\0');  // the parser would take it for the end
  require(nul == std::string_view::npos, source, "header: expected JSON, found a NUL byte at byte {}", nul);
  HeaderHandler handler(source);
  Json::sax_parse(text.begin(), text.end(), &handler);
  return handler.take();
}

}  // namespace halftone

// Reading preprocessor_config.json.

#include <cmath>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "vision/qwen2_vl_processor.h"

namespace halftone {
namespace {

// OpenAI CLIP's statistics, transformers' default for this processor.
constexpr std::array<float, 3> kClipMean = {0.48145466f, 0.4578275f, 0.40821073f};
constexpr std::array<float, 3> kClipStd = {0.26862954f, 0.26130258f, 0.27577711f};
constexpr std::int64_t kBicubic = 3;  // PIL.Image.Resampling.BICUBIC

// One object of the file. Every reader takes a default for a field that is missing or null.
class Fields {
 public:
  Fields(const Json& object, std::string source) : object_(object), source_(std::move(source)) {
    require(object.is_object(), source_, "expected an object, found {}", object.type_name());
  }

  const Json* find(std::string_view field) const {
    const auto it = object_.find(field);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  [[noreturn]] void reject(std::string_view field, std::string_view expected, const Json& found) const {
    fail(source_, "field '{}': expected {}, found {}", field, expected, found.dump().substr(0, 80));
  }

  std::int64_t integer(std::string_view field, std::int64_t fallback, std::int64_t lowest, std::int64_t highest) const {
    const Json* value = find(field);
    if (value == nullptr) return fallback;
    const std::string expected = fmt::format("an integer from {} to {}", lowest, highest);
    if (!value->is_number_integer()) reject(field, expected, *value);
    const bool too_large =
        value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(highest);
    if (too_large || value->get<std::int64_t>() < lowest || value->get<std::int64_t>() > highest) {
      reject(field, expected, *value);
    }
    return value->get<std::int64_t>();
  }

  bool boolean(std::string_view field, bool fallback) const {
    const Json* value = find(field);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) reject(field, "true or false", *value);
    return value->get<bool>();
  }

  double positive_number(std::string_view field, double fallback) const {
    const Json* value = find(field);
    if (value == nullptr) return fallback;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
      reject(field, "a positive number", *value);
    }
    return value->get<double>();
  }

  // A number for each channel, or one for all.
  std::array<float, 3> channels(std::string_view field, const std::array<float, 3>& fallback, bool positive) const {
    const Json* value = find(field);
    if (value == nullptr) return fallback;
    const std::string_view expected = positive ? "3 positive numbers" : "3 numbers";
    if (!value->is_number() && !(value->is_array() && value->size() == 3)) reject(field, expected, *value);
    std::array<float, 3> result{};
    for (std::size_t c = 0; c < 3; ++c) {
      const Json& number = value->is_array() ? (*value)[c] : *value;
      if (!number.is_number()) reject(field, expected, *value);
      result[c] = static_cast<float>(number.get<double>());
      if (!std::isfinite(result[c]) || (positive && result[c] <= 0)) reject(field, expected, *value);
    }
    return result;
  }

  const std::string& source() const { return source_; }

 private:
  const Json& object_;
  std::string source_;
};

// `size` holds the limits as {shortest_edge, longest_edge} or {min_pixels, max_pixels}; the same names at the top level
// win, as in transformers.
PixelBudget read_budget(const Fields& fields) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  PixelBudget budget;
  if (const Json* object = fields.find("size")) {
    const Fields size(*object, fields.source() + ": size");
    budget.min_pixels = size.integer("min_pixels", budget.min_pixels, 1, kMost);
    budget.max_pixels = size.integer("max_pixels", budget.max_pixels, 1, kMost);
    budget.min_pixels = size.integer("shortest_edge", budget.min_pixels, 1, kMost);
    budget.max_pixels = size.integer("longest_edge", budget.max_pixels, 1, kMost);
  }
  budget.min_pixels = fields.integer("min_pixels", budget.min_pixels, 1, kMost);
  budget.max_pixels = fields.integer("max_pixels", budget.max_pixels, 1, kMost);
  require(budget.min_pixels <= budget.max_pixels, fields.source(),
          "field 'max_pixels': expected at least min_pixels = {}, found {}", budget.min_pixels, budget.max_pixels);
  return budget;
}

Qwen2VlProcessor read_processor(const Fields& fields) {
  Qwen2VlProcessor processor;
  processor.budget = read_budget(fields);
  processor.patch_size = fields.integer("patch_size", processor.patch_size, 1, 256);
  processor.temporal_patch_size = fields.integer("temporal_patch_size", processor.temporal_patch_size, 1, 16);
  processor.merge_size = fields.integer("merge_size", processor.merge_size, 1, 16);
  processor.do_resize = fields.boolean("do_resize", true);
  processor.do_rescale = fields.boolean("do_rescale", true);
  processor.do_normalize = fields.boolean("do_normalize", true);
  processor.rescale_factor = fields.positive_number("rescale_factor", processor.rescale_factor);
  processor.mean = fields.channels("image_mean", kClipMean, false);
  processor.std = fields.channels("image_std", kClipStd, true);
  if (const std::int64_t filter = fields.integer("resample", kBicubic, 0, 5); filter != kBicubic) {
    fields.reject("resample", "3 (bicubic)", filter);
  }
  return processor;
}

}  // namespace

Qwen2VlProcessor Qwen2VlProcessor::load(const std::filesystem::path& folder) {
  // Newer transformers nest the same fields in processor_config.json, which then wins.
  const std::filesystem::path nested = folder / "processor_config.json", flat = folder / "preprocessor_config.json";
  if (std::filesystem::exists(nested)) {
    const Json config = read_json(nested);
    if (config.is_object() && config.contains("image_processor")) {
      return read_processor(Fields(config["image_processor"], nested.string() + ": image_processor"));
    }
  }
  const Json config = read_json(flat);
  return read_processor(Fields(config, flat.string()));
}

}  // namespace halftone

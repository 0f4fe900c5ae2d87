// Reading preprocessor_config.json.

#include <cmath>
#include <string>

#include "base/fields.h"
#include "vision/qwen2_vl_processor.h"

namespace halftone {
namespace {

// OpenAI CLIP's statistics, transformers' default for this processor.
constexpr std::array<float, 3> kClipMean = {0.48145466f, 0.4578275f, 0.40821073f};
constexpr std::array<float, 3> kClipStd = {0.26862954f, 0.26130258f, 0.27577711f};
constexpr std::int64_t kBicubic = 3;  // PIL.Image.Resampling.BICUBIC

// A number for each channel, or one for all.
std::array<float, 3> channels(const Fields& fields, std::string_view field, const std::array<float, 3>& fallback,
                              bool positive) {
  const Json* value = fields.find(field);
  if (value == nullptr) return fallback;
  const std::string_view expected = positive ? "3 positive numbers" : "3 numbers";
  if (!value->is_number() && !(value->is_array() && value->size() == 3)) fields.refuse(field, expected, *value);
  std::array<float, 3> result{};
  for (std::size_t c = 0; c < 3; ++c) {
    const Json& number = value->is_array() ? (*value)[c] : *value;
    if (!number.is_number()) fields.refuse(field, expected, *value);
    result[c] = static_cast<float>(number.get<double>());
    if (!std::isfinite(result[c]) || (positive && result[c] <= 0)) fields.refuse(field, expected, *value);
  }
  return result;
}

// `size` holds the limits as {shortest_edge, longest_edge} or {min_pixels, max_pixels}; the same names at the top level
// win, as in transformers.
PixelBudget read_budget(const Fields& fields) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  PixelBudget budget;
  if (fields.has("size")) {
    const Fields size = fields.object("size");
    budget.min_pixels = size.count_or("min_pixels", budget.min_pixels, 1, kMost);
    budget.max_pixels = size.count_or("max_pixels", budget.max_pixels, 1, kMost);
    budget.min_pixels = size.count_or("shortest_edge", budget.min_pixels, 1, kMost);
    budget.max_pixels = size.count_or("longest_edge", budget.max_pixels, 1, kMost);
  }
  budget.min_pixels = fields.count_or("min_pixels", budget.min_pixels, 1, kMost);
  budget.max_pixels = fields.count_or("max_pixels", budget.max_pixels, 1, kMost);
  require(budget.min_pixels <= budget.max_pixels, fields.source(),
          "field 'max_pixels': expected at least min_pixels = {}, found {}", budget.min_pixels, budget.max_pixels);
  return budget;
}

Qwen2VlProcessor read_processor(const Fields& fields) {
  Qwen2VlProcessor processor;
  processor.budget = read_budget(fields);
  processor.patch_size = fields.count_or("patch_size", processor.patch_size, 1, 256);
  processor.temporal_patch_size = fields.count_or("temporal_patch_size", processor.temporal_patch_size, 1, 16);
  processor.merge_size = fields.count_or("merge_size", processor.merge_size, 1, 16);
  processor.do_resize = fields.get_or<bool>("do_resize", true);
  processor.do_rescale = fields.get_or<bool>("do_rescale", true);
  processor.do_normalize = fields.get_or<bool>("do_normalize", true);
  processor.rescale_factor = fields.positive_or("rescale_factor", processor.rescale_factor);
  processor.mean = channels(fields, "image_mean", kClipMean, false);
  processor.std = channels(fields, "image_std", kClipStd, true);
  if (const std::int64_t filter = fields.count_or("resample", kBicubic, 0, 5); filter != kBicubic) {
    fields.refuse("resample", "3 (bicubic)", filter);
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
      return read_processor(Fields(config["image_processor"], nested.string(), "image_processor"));
    }
  }
  const Json config = read_json(flat);
  return read_processor(Fields(config, flat.string()));
}

}  // namespace halftone

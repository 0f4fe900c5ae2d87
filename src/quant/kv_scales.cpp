#include "quant/kv_scales.h"

#include <algorithm>

#include "formats/e4m3.h"
#include "formats/kv_int8.h"
#include "hf/kv_cache_key.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

// [parts * d] -> one scale for each part, whose largest magnitude becomes the format's largest number.
std::vector<float> scales_of(std::span<const float> magnitudes, std::size_t parts, float largest) {
  std::vector<float> scales;
  const std::size_t d = magnitudes.size() / parts;
  for (std::size_t p = 0; p < parts; ++p) {
    const std::span<const float> part = magnitudes.subspan(p * d, d);
    const float amax = part.empty() ? 0 : *std::max_element(part.begin(), part.end());
    scales.push_back(clean_amax(amax, largest) / largest);
  }
  return scales;
}

}  // namespace

KvQuantization kv_scales(std::string_view format, std::span<const KvStatistics> layers,
                         std::span<const std::vector<float>> v_factors) {
  require(is_kv_format(format), "kv_scales", "expected a KV format, got '{}'", format);
  KvQuantization kv;
  kv.format = format;
  if (!kv_has_scales(format)) return kv;
  require(!layers.empty() && v_factors.size() == layers.size(), "kv_scales",
          "{} needs calibration of every layer, got {} layers", format, layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const KvStatistics& layer = layers[i];
    std::vector<float> v = layer.v;
    for (std::size_t c = 0; c < v.size() && !v_factors[i].empty(); ++c) v[c] /= v_factors[i].at(c);
    const std::size_t parts = kv_has_head_scales(format) ? layer.k.size() : 1;
    const float largest = kv_is_int8(format) ? kv_int8::kMax : e4m3::kMax;
    kv.layers.push_back({scales_of(format == "fp8_debiased" ? layer.k_debiased : layer.k, parts, largest),
                         scales_of(v, parts, largest)});
  }
  return kv;
}

}  // namespace halftone

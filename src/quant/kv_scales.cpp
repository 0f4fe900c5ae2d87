#include "quant/kv_scales.h"

#include <algorithm>

#include "formats/e4m3.h"
#include "hf/kv_cache_key.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

float scale_of(std::span<const float> magnitudes) {
  const float amax = magnitudes.empty() ? 0 : *std::max_element(magnitudes.begin(), magnitudes.end());
  return clean_amax(amax, e4m3::kMax) / e4m3::kMax;
}

// [heads * d] -> one scale for each head.
std::vector<float> scales_of_heads(std::span<const float> magnitudes, std::size_t heads) {
  std::vector<float> scales;
  const std::size_t d = magnitudes.size() / heads;
  for (std::size_t h = 0; h < heads; ++h) scales.push_back(scale_of(magnitudes.subspan(h * d, d)));
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
    if (format == "fp8_head") {
      kv.layers.push_back({scales_of_heads(layer.k, layer.k.size()), scales_of_heads(v, layer.k.size())});
    } else {
      kv.layers.push_back({{scale_of(format == "fp8_debiased" ? layer.k_debiased : layer.k)}, {scale_of(v)}});
    }
  }
  return kv;
}

}  // namespace halftone

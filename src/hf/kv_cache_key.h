#pragma once
// Our own key in config.json for KV formats that no public layout can state; other loaders ignore it:
//   "halftone_kv_cache": {"format": "fp8_debiased", "k_scales": [[...] a layer, ...], "v_scales": [[...], ...]}

#include <array>
#include <string_view>

namespace halftone {

inline constexpr std::string_view kKvCacheKey = "halftone_kv_cache";
inline constexpr std::array<std::string_view, 7> kKvFormats{
    "bf16", "fp8", "fp8_calibrated", "fp8_head", "fp8_debiased", "int8_calibrated", "int8_head"};

bool is_kv_format(std::string_view name);
// Whether the format comes with scales (fp8 has the scale 1.0, bf16 none).
bool kv_has_scales(std::string_view format);
// Whether there is one for each key-value head.
bool kv_has_head_scales(std::string_view format);
bool kv_is_int8(std::string_view format);

}  // namespace halftone

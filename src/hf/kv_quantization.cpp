#include <algorithm>
#include <array>
#include <cmath>

#include "hf/checkpoint.h"
#include "hf/config_fields.h"
#include "hf/kv_cache_key.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

constexpr std::array<std::string_view, 3> kLayerPrefixes{"model.layers.", "model.language_model.layers.",
                                                         "language_model.model.layers."};
constexpr std::int64_t kMaxLayers = 10'000;

void check_scale(float scale, std::string_view source, std::string_view name) {
  require(std::isfinite(scale) && scale > 0, source, "{}: expected finite scales above 0, found {}", name, scale);
}

std::vector<std::vector<float>> scale_lists(const OrderedJson& object, std::string_view field, std::int64_t layers,
                                            const std::string& source) {
  const OrderedJson* lists = find_field(object, field, source);
  if (!lists) return std::vector<std::vector<float>>(static_cast<std::size_t>(layers));
  require(lists->is_array() && static_cast<std::int64_t>(lists->size()) == layers, source,
          "field '{}': expected a list for each of {} layers, found {}", field, layers,
          lists->is_array() ? std::to_string(lists->size()) : shown(*lists));
  std::vector<std::vector<float>> result;
  for (const OrderedJson& list : *lists) {
    require(list.is_array() && !list.empty(), source, "field '{}': expected lists of numbers, found {}", field,
            shown(list));
    auto& layer = result.emplace_back();
    for (const OrderedJson& value : list) {
      require(value.is_number() && !value.is_boolean(), source, "field '{}': expected numbers, found {}", field,
              shown(value));
      layer.push_back(static_cast<float>(value.get<double>()));
      check_scale(layer.back(), source, fmt::format("field '{}'", field));
    }
  }
  return result;
}

KvQuantization read_own_key(const OrderedJson& object, std::int64_t layers, const std::string& source) {
  KvQuantization kv;
  const auto format = string_field(object, "format", source);
  require(format.has_value() && is_kv_format(*format), source, "field 'format': expected {}, found '{}'",
          fmt::join(kKvFormats, ", "), format.value_or("").substr(0, 80));
  kv.format = *format;
  const auto k = scale_lists(object, "k_scales", layers, source), v = scale_lists(object, "v_scales", layers, source);
  for (std::size_t i = 0; i < k.size(); ++i) {
    require(!kv_has_scales(kv.format) || (!k[i].empty() && !v[i].empty()), source,
            "fields 'k_scales' and 'v_scales': expected scales for format {}, found none", kv.format);
    kv.layers.push_back({k[i], v[i]});
  }
  return kv;
}

// The scales in one tensor, or none when there is no such tensor.
std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& name) {
  if (!checkpoint.contains(name)) return {};
  const std::string source = checkpoint.folder().string();
  const Tensor stored = checkpoint.tensor(name);
  const DType t = stored.dtype();
  require(t == DType::kF32 || t == DType::kBF16 || t == DType::kF16, source,
          "tensor '{}': expected F32, BF16 or F16, found {}", name, dtype_name(t));
  require(stored.numel() >= 1 && stored.numel() <= 4096, source,
          "tensor '{}': expected one scale, or one a head, found shape {}", name, to_string(stored.shape()));
  const Tensor values = to_f32(stored);
  std::vector<float> scales(values.data<float>(), values.data<float>() + values.numel());
  for (const float scale : scales) check_scale(scale, source, "tensor '" + name + "'");
  return scales;
}

KvScales read_layer(const Checkpoint& checkpoint, std::int64_t layer, bool modelopt) {
  for (const std::string_view prefix : kLayerPrefixes) {
    const std::string attention = fmt::format("{}{}.self_attn.", prefix, layer);
    KvScales scales{read_scales(checkpoint, attention + (modelopt ? "k_proj.k_scale" : "k_scale")),
                    read_scales(checkpoint, attention + (modelopt ? "v_proj.v_scale" : "v_scale"))};
    if (!scales.k.empty() || !scales.v.empty()) return scales;
  }
  return {};
}

// What the layout's own tensors say.
KvQuantization read_layout(const Checkpoint& checkpoint, KvScheme scheme, std::int64_t layers) {
  KvQuantization kv;
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < layers; ++i) {
    kv.layers.push_back(read_layer(checkpoint, i, scheme == KvScheme::kModelOpt));
    const KvScales& scales = kv.layers.back();
    require(scales.k.empty() == scales.v.empty(), checkpoint.folder().string(),
            "layer {}: expected scales of both keys and values, found one of them", i);
    found += scales.k.empty() ? 0 : 1;
  }
  require(found == 0 || found == layers, checkpoint.folder().string(),
          "expected scales of the KV cache for all {} layers, found {}", layers, found);
  const auto unit = [](const KvScales& s) { return s.k == std::vector{1.0f} && s.v == std::vector{1.0f}; };
  if (found == 0 || std::all_of(kv.layers.begin(), kv.layers.end(), unit)) {
    kv.format = "fp8";
    kv.layers.assign(static_cast<std::size_t>(layers), {});
    return kv;
  }
  kv.format = scheme == KvScheme::kPerHead ? "fp8_head" : "fp8_calibrated";
  return kv;
}

}  // namespace

bool is_kv_format(std::string_view name) {
  return std::find(kKvFormats.begin(), kKvFormats.end(), name) != kKvFormats.end();
}

bool kv_has_scales(std::string_view format) { return format != "bf16" && format != "fp8"; }
bool kv_has_head_scales(std::string_view format) { return format == "fp8_head" || format == "int8_head"; }
bool kv_is_int8(std::string_view format) { return format == "int8_calibrated" || format == "int8_head"; }

KvQuantization load_kv_quantization(const Checkpoint& checkpoint, std::int64_t layers) {
  const std::string config = (checkpoint.folder() / "config.json").string();
  require(layers > 0 && layers <= kMaxLayers, config, "expected 1 to {} layers, found {}", kMaxLayers, layers);
  const KvScheme scheme = checkpoint.quantization().kv();
  // read also where our own key decides: damage that another loader would meet is an error here, too
  KvQuantization kv = scheme == KvScheme::kNone ? KvQuantization{} : read_layout(checkpoint, scheme, layers);
  if (const OrderedJson* own = find_field(checkpoint.config(), kKvCacheKey, config)) {
    return read_own_key(*own, layers, fmt::format("{}: {}", config, kKvCacheKey));
  }
  return kv;
}

}  // namespace halftone

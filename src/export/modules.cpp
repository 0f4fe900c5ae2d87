#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <tuple>

#include "export/layouts.h"
#include "hf/kv_cache_key.h"

namespace halftone {

std::vector<std::string> unquantized_modules(const ExportPlan& plan, bool embeddings) {
  constexpr std::string_view kSuffix = ".weight";
  std::vector<std::string> names;
  bool head = false;
  for (const auto& [name, info] : plan.source.tensors()) {
    if (!name.ends_with(kSuffix) || (info.shape.size() != 2 && info.shape.size() != 5)) continue;
    std::string module = name.substr(0, name.size() - kSuffix.size());
    if ((module.ends_with("embed_tokens") && !embeddings) || plan.modules.contains(module)) continue;
    head = head || is_head(module);
    names.push_back(std::move(module));
  }
  // a tied head has no tensor, yet loaders build a linear layer for it
  if (!head && !quantizes_head(plan)) names.insert(names.begin(), "lm_head");
  return names;
}

std::vector<std::string> modules_in_model_order(const ExportPlan& plan) {
  constexpr std::array<std::string_view, 7> kOrder{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                   "gate_proj", "up_proj", "down_proj"};
  // the tower, then the decoder by layer, then the head
  const auto key = [&](const std::string& name) {
    constexpr std::string_view kLayers = "layers.";
    const std::size_t at = name.find(kLayers);
    const bool decoder = at != std::string::npos && !is_vision_module(name);
    const int part = is_vision_module(name) ? 0 : decoder ? 1 : 2;
    const int layer = decoder ? std::atoi(name.c_str() + at + kLayers.size()) : 0;
    const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1);
    return std::tuple(part, layer, std::find(kOrder.begin(), kOrder.end(), last) - kOrder.begin());
  };
  std::vector<std::string> names;
  for (const auto& [name, module] : plan.modules) names.push_back(name);
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return key(a) < key(b); });
  return names;
}

std::string escape_expression(std::string_view text) {
  std::string expression;
  for (const char c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') expression += '\\';
    expression += c;
  }
  return expression;
}

bool is_vision_module(std::string_view module) {
  return module.starts_with("visual.") || module.starts_with("model.visual.");
}

bool quantizes_vision(const ExportPlan& plan) {
  return std::any_of(plan.modules.begin(), plan.modules.end(), [](const auto& m) { return is_vision_module(m.first); });
}

bool is_head(std::string_view module) { return module == "lm_head" || module.ends_with(".lm_head"); }

bool quantizes_head(const ExportPlan& plan) {
  return std::any_of(plan.modules.begin(), plan.modules.end(), [](const auto& m) { return is_head(m.first); });
}

bool layout_states_kv(Layout layout, const KvQuantization& kv) {
  const auto sizes_are_one = [&] {
    return std::all_of(kv.layers.begin(), kv.layers.end(),
                       [](const KvScales& s) { return s.k.size() == 1 && s.v.size() == 1; });
  };
  if (kv.format == "bf16") return true;
  if (layout == Layout::kModelOpt) return kv.format == "fp8" || (kv.format == "fp8_calibrated" && sizes_are_one());
  // compressed-tensors' schema could state integers, too, but no engine loads them
  if (layout == Layout::kCompressedTensors) return kv.format != "fp8_debiased" && !kv_is_int8(kv.format);
  return false;
}

bool layout_holds_kv(Layout layout, const KvQuantization& kv, DType model_dtype) {
  if (!layout_states_kv(layout, kv)) return false;
  if (layout != Layout::kCompressedTensors) return true;
  const auto exact = [&](const std::vector<float>& scales) {
    const Tensor wanted = Tensor::from(scales, {static_cast<std::int64_t>(scales.size())});
    const Tensor stored = to_f32(from_f32(wanted, model_dtype));
    return std::equal(scales.begin(), scales.end(), stored.data<float>());
  };
  return std::all_of(kv.layers.begin(), kv.layers.end(), [&](const KvScales& s) { return exact(s.k) && exact(s.v); });
}

OrderedJson own_kv_config(const KvQuantization& kv) {
  OrderedJson config{{"format", kv.format}};
  if (!kv_has_scales(kv.format)) return config;
  OrderedJson k = OrderedJson::array(), v = OrderedJson::array();
  for (const KvScales& scales : kv.layers) {
    k.push_back(scales.k);
    v.push_back(scales.v);
  }
  config["k_scales"] = std::move(k);
  config["v_scales"] = std::move(v);
  return config;
}

}  // namespace halftone

#include "quant/inventory.h"

#include <algorithm>
#include <map>

#include "hf/checkpoint.h"
#include "model/registry.h"

namespace halftone {
namespace {

// Of one scale: E4M3 or E8M0 in block formats (and NVFP4's one F32 for the whole), NF4's 8 bits, else ModelOpt F32,
// compressed-tensors BF16.
std::int64_t scale_bytes(const QuantSpec& spec) {
  if (spec.mx || spec.element == Element::kNF4) return 1;
  if (spec.granularity == Granularity::kGroup && spec.element == Element::kE2M1) return 1;
  return spec.element == Element::kE4M3 ? 4 : 2;
}

// Everything that the folder stores under the module's name.
std::int64_t bytes_in_file(const Checkpoint& checkpoint, const ModuleInfo& info) {
  const std::string prefix = info.stored + ".";
  std::int64_t bytes = 0;
  for (auto it = checkpoint.tensors().lower_bound(prefix); it != checkpoint.tensors().end(); ++it) {
    if (!it->first.starts_with(prefix)) break;
    const std::string_view part = std::string_view(it->first).substr(prefix.size());
    if (part.find('.') == std::string::npos || part.starts_with("weight.")) bytes += it->second.nbytes;
  }
  return bytes;
}

std::vector<PartSize> sizes_by_part(const Checkpoint& checkpoint, const std::vector<ModuleInfo>& modules) {
  std::vector<PartSize> parts;
  for (const ModuleInfo& info : modules) {
    if (info.tied) continue;  // the embedding's tensor
    const std::string part(to_string(info.rule_class));
    auto it = std::find_if(parts.begin(), parts.end(), [&](const PartSize& p) { return p.part == part; });
    if (it == parts.end()) it = parts.insert(parts.end(), PartSize{part, 0, 0, 0});
    ++it->modules;
    it->parameters += count_elements(info.shape) + (info.has_bias ? info.shape.at(0) : 0);
    it->bytes += bytes_in_file(checkpoint, info);
  }
  return parts;
}

// Bytes of the module in `format`; what it has now, and a refusal, when it cannot take it.
std::int64_t bytes_in_format(const Checkpoint& checkpoint, const ModuleInfo& info, const LinearFormat& format,
                             Layout layout, std::vector<Refusal>& refusals) {
  // a tied head has none until it is quantized
  const std::int64_t bytes = info.tied ? 0 : bytes_in_file(checkpoint, info);
  if (!format.quantized()) return bytes;
  if (const auto reason = why_not(info.shape, format, layout)) {
    refusals.push_back({info.module, *reason});
    return bytes;
  }
  const std::int64_t replaced = info.tied ? 0 : checkpoint.tensors().at(info.stored + ".weight").nbytes;
  return bytes + stored_bytes(info.shape, format.weights) - replaced;
}

RecipeCost cost_of(const Recipe& recipe, const Checkpoint& checkpoint, const std::vector<ModuleInfo>& modules) {
  RecipeCost cost{recipe.name, 0, 0, recipe.needs_calibration(), {}};
  const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    cost.bytes += bytes_in_format(checkpoint, modules[i], formats[i], recipe.layout, cost.refusals);
    cost.quantized += formats[i].quantized();
  }
  cost.quantized -= std::ssize(cost.refusals);
  return cost;
}

FormatCost cost_of(const StoredFormat& stored, const Checkpoint& checkpoint, const std::vector<ModuleInfo>& modules) {
  FormatCost cost{std::string(weight_format_name(stored.format.weights)),
                  std::string(input_format_name(stored.format.inputs)),
                  std::string(layout_name(stored.layout)),
                  0,
                  0,
                  {}};
  for (const ModuleInfo& info : modules) {
    if (info.tied) {
      if (!why_not(info.shape, stored.format, stored.layout)) {
        cost.head_bytes = stored_bytes(info.shape, stored.format.weights);
      }
      continue;
    }
    cost.bytes +=
        bytes_in_format(checkpoint, info, info.linear ? stored.format : LinearFormat{}, stored.layout, cost.refusals);
    cost.layers += info.linear;
  }
  cost.layers -= std::ssize(cost.refusals);
  return cost;
}

// "int4 group 128": 56, "bf16": 23
std::map<std::string, std::int64_t> formats_of(const Checkpoint& checkpoint, const std::vector<ModuleInfo>& modules) {
  std::map<std::string, std::int64_t> formats;
  for (const ModuleInfo& info : modules) {
    if (!info.linear || info.tied) continue;
    const LinearParts parts = load_linear(checkpoint, info.stored);
    const std::string inputs(input_format_name(parts.input.kind));
    ++formats[to_string(parts.weight.spec) + (inputs == "none" ? "" : ", inputs " + inputs)];
  }
  return formats;
}

}  // namespace

std::int64_t stored_bytes(const Shape& shape, const QuantSpec& spec) {
  const std::int64_t rows = shape.at(0), cols = shape.at(1);
  const std::int64_t payload = rows * ((cols * bits_of(spec.element) + 7) / 8);
  if (spec.granularity == Granularity::kNone) return payload;
  const std::int64_t scales = count_elements(scales_shape(spec, shape));
  const bool global = spec.element == Element::kE2M1 && !spec.mx;
  const std::int64_t zeros = spec.asymmetric ? (scales * bits_of(spec.element) + 7) / 8 : 0;
  return payload + scales * scale_bytes(spec) + zeros + (global ? 4 : 0);
}

Inventory take_inventory(const Checkpoint& checkpoint) {
  const auto [config, modules] = read_structure(checkpoint);
  const DecoderConfig& decoder = config.decoder;
  constexpr std::int64_t kBytesOfBf16 = 2;
  Inventory inventory;
  inventory.architecture = config.model_type;
  inventory.layers = decoder.layers;
  inventory.hidden = decoder.hidden;
  inventory.heads = decoder.heads;
  inventory.kv_heads = decoder.kv_heads;
  inventory.head_dim = decoder.head_dim;
  inventory.vocabulary = decoder.vocabulary;
  inventory.kv_bytes_per_token = 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * kBytesOfBf16;
  inventory.parts = sizes_by_part(checkpoint, modules);
  const Layout layout = checkpoint.quantization().layout();
  inventory.quantization = layout == Layout::kAsIs ? "none" : std::string(layout_name(layout));
  if (layout != Layout::kAsIs) {
    inventory.layer_formats = formats_of(checkpoint, modules);
    return inventory;
  }
  for (const std::string& name : shipped_recipes()) {
    inventory.recipes.push_back(cost_of(load_recipe(name), checkpoint, modules));
  }
  for (const StoredFormat& stored : stored_formats()) {
    inventory.formats.push_back(cost_of(stored, checkpoint, modules));
  }
  return inventory;
}

}  // namespace halftone

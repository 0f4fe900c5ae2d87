#include "quant/format_names.h"

#include <algorithm>
#include <initializer_list>

namespace halftone {
namespace {

using enum Granularity;
using Kind = InputQuant::Kind;

struct WeightRow {
  std::string_view name;
  QuantSpec spec;
};

constexpr WeightRow kWeights[] = {
    {"none", {}},
    {"int8_channel", {Element::kInt8, kChannel, 0}},
    {"int8_channel_asym", {Element::kInt8, kChannel, 0, false, true}},
    {"int8_group32", {Element::kInt8, kGroup, 32}},
    {"int8_group64", {Element::kInt8, kGroup, 64}},
    {"int8_group128", {Element::kInt8, kGroup, 128}},
    {"int8_group32_asym", {Element::kInt8, kGroup, 32, false, true}},
    {"int8_group64_asym", {Element::kInt8, kGroup, 64, false, true}},
    {"int8_group128_asym", {Element::kInt8, kGroup, 128, false, true}},
    {"int4_channel", {Element::kInt4, kChannel, 0}},
    {"int4_channel_asym", {Element::kInt4, kChannel, 0, false, true}},
    {"int4_group32", {Element::kInt4, kGroup, 32}},
    {"int4_group64", {Element::kInt4, kGroup, 64}},
    {"int4_group128", {Element::kInt4, kGroup, 128}},
    {"int4_group32_asym", {Element::kInt4, kGroup, 32, false, true}},
    {"int4_group64_asym", {Element::kInt4, kGroup, 64, false, true}},
    {"int4_group128_asym", {Element::kInt4, kGroup, 128, false, true}},
    {"e4m3_tensor", {Element::kE4M3, kTensor, 0}},
    {"e4m3_channel", {Element::kE4M3, kChannel, 0}},
    {"e4m3_tile128", {Element::kE4M3, kTile, 128}},
    {"nvfp4_block16", {Element::kE2M1, kGroup, 16}},
    {"nvfp4_block32", {Element::kE2M1, kGroup, 32}},
    {"mxfp4", {Element::kE2M1, kGroup, 32, true}},
    {"mxfp6_e3m2", {Element::kE3M2, kGroup, 32, true}},
    {"mxfp6_e2m3", {Element::kE2M3, kGroup, 32, true}},
    {"mxfp8", {Element::kE4M3, kGroup, 32, true}},
    {"nf4_block64", {Element::kNF4, kGroup, 64}},
};

struct InputRow {
  std::string_view name;
  Kind kind;
};

// in the order of the enumeration
constexpr InputRow kInputs[] = {
    {"none", Kind::kNone},
    {"int8_tensor", Kind::kStaticInt8},
    {"e4m3_tensor", Kind::kStaticE4M3},
    {"nvfp4_block16", Kind::kDynamicNvfp4},
    {"int8_token", Kind::kDynamicInt8},
    {"e4m3_token", Kind::kDynamicE4M3},
    {"e4m3_group128", Kind::kDynamicE4M3Group},
    {"mxfp8", Kind::kDynamicMxfp8},
    {"mxfp4", Kind::kDynamicMxfp4},
};

// What a layout can state: weights by the beginning of their name, and the inputs that may go with them.
struct PairRow {
  Layout layout;
  std::string_view weights;
  std::initializer_list<Kind> inputs;
};

const PairRow kPairs[] = {
    {Layout::kModelOpt, "int8_channel", {Kind::kNone, Kind::kStaticInt8}},
    {Layout::kModelOpt, "int4_group", {Kind::kNone, Kind::kStaticE4M3}},
    {Layout::kModelOpt, "e4m3_tensor", {Kind::kStaticE4M3}},
    {Layout::kModelOpt, "e4m3_channel", {Kind::kDynamicE4M3}},
    {Layout::kModelOpt, "e4m3_tile128", {Kind::kNone}},
    {Layout::kModelOpt, "nvfp4_block16", {Kind::kNone, Kind::kDynamicNvfp4}},
    {Layout::kModelOpt, "nvfp4_block32", {Kind::kStaticE4M3}},
    {Layout::kModelOpt, "mxfp4", {Kind::kDynamicMxfp4, Kind::kDynamicE4M3}},
    {Layout::kModelOpt, "mxfp8", {Kind::kDynamicMxfp8}},
    {Layout::kCompressedTensors, "int8_channel", {Kind::kNone, Kind::kStaticInt8, Kind::kDynamicInt8}},
    {Layout::kCompressedTensors, "int8_group", {Kind::kNone}},
    {Layout::kCompressedTensors, "int4_", {Kind::kNone}},
    {Layout::kCompressedTensors, "e4m3_tensor", {Kind::kNone, Kind::kStaticE4M3, Kind::kDynamicE4M3}},
    {Layout::kCompressedTensors, "e4m3_channel", {Kind::kNone, Kind::kStaticE4M3, Kind::kDynamicE4M3}},
    {Layout::kCompressedTensors, "e4m3_tile128", {Kind::kNone, Kind::kDynamicE4M3Group}},
    {Layout::kCompressedTensors, "nvfp4_block16", {Kind::kNone, Kind::kDynamicNvfp4}},
    {Layout::kCompressedTensors, "mxfp4", {Kind::kNone, Kind::kDynamicMxfp4}},
    {Layout::kCompressedTensors, "mxfp6_e2m3", {Kind::kNone, Kind::kDynamicMxfp8}},
    {Layout::kCompressedTensors, "mxfp8", {Kind::kNone, Kind::kDynamicMxfp8}},
    {Layout::kAwq, "int4_group", {Kind::kNone}},
    {Layout::kGptq, "int4_", {Kind::kNone}},
    {Layout::kGptq, "int8_", {Kind::kNone}},
    {Layout::kGptqV2, "int4_", {Kind::kNone}},
    {Layout::kGptqV2, "int8_", {Kind::kNone}},
    {Layout::kGguf, "int8_group32", {Kind::kNone}},
    {Layout::kGguf, "int4_group32", {Kind::kNone}},
    {Layout::kBitsandbytes, "nf4_block64", {Kind::kNone}},
};

// Layouts without zeros.
bool refuses_zeros(Layout layout, const QuantSpec& spec) {
  return layout == Layout::kModelOpt || (layout == Layout::kGguf && spec.element == Element::kInt8);
}

constexpr std::string_view kLayouts[] = {"as-is",   "compressed-tensors", "modelopt", "awq", "gptq", "gguf",
                                         "gptq_v2", "bitsandbytes"};

template <typename Rows, typename Name>
std::string list_names(const Rows& rows, Name name) {
  std::string list;
  for (const auto& row : rows) list += fmt::format("{}{}", list.empty() ? "" : ", ", name(row));
  return list;
}

template <typename Rows>
const auto& find_row(const Rows& rows, std::string_view name, std::string_view source, std::string_view field) {
  const auto it = std::find_if(std::begin(rows), std::end(rows), [&](const auto& row) { return row.name == name; });
  require(it != std::end(rows), source, "field '{}': expected one of {}, found '{}'", field,
          list_names(rows, [](const auto& row) { return row.name; }), name);
  return *it;
}

const WeightRow& row_of(const QuantSpec& spec) {
  const auto it = std::find_if(std::begin(kWeights), std::end(kWeights), [&](const WeightRow& r) {
    return r.spec == spec || (r.spec.granularity == kNone && spec.granularity == kNone);
  });
  require(it != std::end(kWeights), "quant", "expected a format that recipes know, got {}", to_string(spec));
  return *it;
}

bool is_gptq(Layout layout) { return layout == Layout::kGptq || layout == Layout::kGptqV2; }

// Whole groups are what every layout's tools demand; AWQ and GPTQ pack outputs by eight, ModelOpt INT4 by two.
std::optional<std::string> why_not_shape(const Shape& shape, const QuantSpec& spec, Layout layout) {
  const std::int64_t rows = shape.at(0), cols = shape.at(1);
  if (spec.granularity == kGroup && cols % spec.group != 0) {
    return fmt::format("{} inputs are not a multiple of {}", cols, spec.group);
  }
  const bool words = layout == Layout::kAwq || is_gptq(layout);
  const std::int64_t together = words ? 8 : layout == Layout::kModelOpt && spec.element == Element::kInt4 ? 2 : 1;
  if (rows % together != 0) return fmt::format("{} outputs are not a multiple of {}", rows, together);
  if (is_gptq(layout) && cols % 8 != 0) return fmt::format("{} inputs are not a multiple of 8", cols);
  if (layout == Layout::kGguf && spec.asymmetric && cols % 256 != 0) {
    return fmt::format("{} inputs are not a multiple of 256", cols);
  }
  return std::nullopt;
}

}  // namespace

std::string_view layout_name(Layout layout) { return kLayouts[static_cast<std::size_t>(layout)]; }

QuantSpec weight_format_from_name(std::string_view name, std::string_view source, std::string_view field) {
  return find_row(kWeights, name, source, field).spec;
}

InputQuant::Kind input_format_from_name(std::string_view name, std::string_view source, std::string_view field) {
  return find_row(kInputs, name, source, field).kind;
}

Layout layout_from_name(std::string_view name, std::string_view source) {
  const auto it = std::find(std::begin(kLayouts), std::end(kLayouts), name);
  require(it != std::end(kLayouts), source, "field 'layout': expected one of {}, found '{}'",
          list_names(kLayouts, [](std::string_view n) { return n; }), name);
  return static_cast<Layout>(it - std::begin(kLayouts));
}

std::string_view weight_format_name(const QuantSpec& spec) { return row_of(spec).name; }

std::string_view input_format_name(InputQuant::Kind kind) { return kInputs[static_cast<std::size_t>(kind)].name; }

std::vector<StoredFormat> stored_formats() {
  std::vector<StoredFormat> formats;
  for (const WeightRow& weights : kWeights) {
    const bool integers = weights.spec.element == Element::kInt8 || weights.spec.element == Element::kInt4;
    const bool nf4 = weights.spec.element == Element::kNF4;
    const Layout usual = integers ? Layout::kCompressedTensors : nf4 ? Layout::kBitsandbytes : Layout::kModelOpt;
    const Layout other = integers ? Layout::kModelOpt : Layout::kCompressedTensors;
    for (const InputRow& inputs : kInputs) {
      const LinearFormat format{weights.spec, inputs.kind};
      if (!format.quantized()) continue;
      const Shape any = {weights.spec.group, weights.spec.group};
      const auto holds = [&](Layout layout) { return !why_not(any, format, layout); };
      if (holds(usual) || holds(other)) formats.push_back({format, holds(usual) ? usual : other});
    }
  }
  return formats;
}

std::optional<std::string> why_not(const Shape& shape, const LinearFormat& format, Layout layout) {
  if (!format.quantized()) return std::nullopt;
  const std::string_view weights = row_of(format.weights).name, inputs = input_format_name(format.inputs);
  bool holds_weights = false, holds_pair = false;
  for (const PairRow& row : kPairs) {
    if (row.layout != layout || !weights.starts_with(row.weights)) continue;
    holds_weights = !(format.weights.asymmetric && refuses_zeros(layout, format.weights));
    holds_pair |= holds_weights && std::find(row.inputs.begin(), row.inputs.end(), format.inputs) != row.inputs.end();
  }
  if (!holds_weights) return fmt::format("layout {} has no {} weights", layout_name(layout), weights);
  if (!holds_pair) {
    return fmt::format("layout {} has no {} weights with {} inputs", layout_name(layout), weights, inputs);
  }
  return why_not_shape(shape, format.weights, layout);
}

}  // namespace halftone

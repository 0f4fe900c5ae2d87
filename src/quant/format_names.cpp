#include "quant/format_names.h"

#include <algorithm>

namespace halftone {
namespace {

struct WeightRow {
  std::string_view name;
  QuantSpec spec;
  Layout layout;
};

constexpr WeightRow kWeights[] = {
    {"none", {}, Layout::kAsIs},
    {"int8_channel", {Element::kInt8, Granularity::kChannel, 0}, Layout::kCompressedTensors},
    {"int4_group32", {Element::kInt4, Granularity::kGroup, 32}, Layout::kCompressedTensors},
    {"int4_group64", {Element::kInt4, Granularity::kGroup, 64}, Layout::kCompressedTensors},
    {"int4_group128", {Element::kInt4, Granularity::kGroup, 128}, Layout::kCompressedTensors},
    {"e4m3_tensor", {Element::kE4M3, Granularity::kTensor, 0}, Layout::kModelOpt},
    {"nvfp4_block16", {Element::kE2M1, Granularity::kGroup, 16}, Layout::kModelOpt},
    {"nvfp4_block32", {Element::kE2M1, Granularity::kGroup, 32}, Layout::kModelOpt},
};

struct InputRow {
  std::string_view name;
  InputQuant::Kind kind;
  std::string_view weights;  // the only weight format that the layouts store it with; "" for any
};

constexpr InputRow kInputs[] = {
    {"none", InputQuant::Kind::kNone, ""},
    {"int8_tensor", InputQuant::Kind::kStaticInt8, "int8_channel"},
    {"e4m3_tensor", InputQuant::Kind::kStaticE4M3, ""},
    {"nvfp4_block16", InputQuant::Kind::kDynamicNvfp4, "nvfp4_block16"},
};

constexpr std::string_view kLayouts[] = {"as-is", "compressed-tensors", "modelopt"};

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
    return r.spec.granularity == spec.granularity && r.spec.group == spec.group &&
           (r.spec.element == spec.element || spec.granularity == Granularity::kNone);
  });
  require(it != std::end(kWeights), "quant", "expected a format that recipes know, got {}", to_string(spec));
  return *it;
}

// The ModelOpt algorithms are pairs; compressed-tensors takes any integer weights without inputs.
bool pair_has_layout(std::string_view weights, std::string_view inputs) {
  if (weights.starts_with("int")) return inputs == "none" || inputs == "int8_tensor";
  if (weights == "nvfp4_block16") return inputs == "nvfp4_block16" || inputs == "none";
  return inputs == "e4m3_tensor";
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
    for (const InputRow& inputs : kInputs) {
      const StoredFormat stored{{weights.spec, inputs.kind}, weights.layout};
      const Shape any = {weights.spec.group, weights.spec.group};
      if (stored.format.quantized() && !why_not(any, stored.format, stored.layout)) formats.push_back(stored);
    }
  }
  return formats;
}

std::optional<std::string> why_not(const Shape& shape, const LinearFormat& format, Layout layout) {
  if (!format.quantized()) return std::nullopt;
  const WeightRow& weights = row_of(format.weights);
  const std::string_view inputs = input_format_name(format.inputs);
  if (weights.layout != layout) {
    return fmt::format("layout {} has no {} weights", layout_name(layout), weights.name);
  }
  const InputRow& input = kInputs[static_cast<std::size_t>(format.inputs)];
  if (!pair_has_layout(weights.name, inputs) || (!input.weights.empty() && input.weights != weights.name)) {
    return fmt::format("layout {} has no {} weights with {} inputs", layout_name(layout), weights.name, inputs);
  }
  const std::int64_t group = format.weights.group;
  if (group > 0 && shape.at(1) % group != 0) {
    return fmt::format("{} inputs are not a multiple of {}", shape.at(1), group);
  }
  return std::nullopt;
}

}  // namespace halftone

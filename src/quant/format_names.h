#pragma once
// The formats that a recipe can name, and what each needs of a matrix's shape.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hf/layout.h"
#include "tensor/qtensor.h"

namespace halftone {

// What happens to one linear layer. The default: nothing.
struct LinearFormat {
  QuantSpec weights{};
  InputQuant::Kind inputs = InputQuant::Kind::kNone;
  bool four_over_six = false;  // of nvfp4_block16 weights: quant/four_over_six.h
  bool quantized() const { return weights.granularity != Granularity::kNone; }
  bool operator==(const LinearFormat&) const = default;
};

// "int4_group128" -> int4, groups of 128; "none" -> as it is. Throws Error("[source] field '...': ...") listing the known
// names.
QuantSpec weight_format_from_name(std::string_view name, std::string_view source, std::string_view field = "weights");
InputQuant::Kind input_format_from_name(std::string_view name, std::string_view source,
                                        std::string_view field = "inputs");
Layout layout_from_name(std::string_view name, std::string_view source);
// The inverses.
std::string_view weight_format_name(const QuantSpec& spec);
std::string_view input_format_name(InputQuant::Kind kind);
std::string_view layout_name(Layout layout);

// A pair of formats of weights and inputs, and the layout that stores it: compressed-tensors for integers, bitsandbytes
// for NF4, ModelOpt for the others, where it can.
struct StoredFormat {
  LinearFormat format;
  Layout layout = Layout::kAsIs;
};
// All of them, in the order of the names.
std::vector<StoredFormat> stored_formats();

// Why a matrix of `shape` cannot take `format` in `layout`; nothing when it can.
std::optional<std::string> why_not(const Shape& shape, const LinearFormat& format, Layout layout);

}  // namespace halftone

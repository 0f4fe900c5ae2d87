#pragma once
// The formats that a recipe can name, and what each needs of a matrix's shape.

#include <optional>
#include <string>
#include <string_view>

#include "hf/layout.h"
#include "tensor/qtensor.h"

namespace halftone {

// What happens to one linear layer. The default: nothing.
struct LinearFormat {
  QuantSpec weights{};
  InputQuant::Kind inputs = InputQuant::Kind::kNone;
  bool quantized() const { return weights.granularity != Granularity::kNone; }
  bool operator==(const LinearFormat&) const = default;
};

// "int4_group128" -> int4, groups of 128; "none" -> as it is. Throws Error("[source] ...") listing the known names.
QuantSpec weight_format_from_name(std::string_view name, std::string_view source);
InputQuant::Kind input_format_from_name(std::string_view name, std::string_view source);
Layout layout_from_name(std::string_view name, std::string_view source);
// The inverses.
std::string_view weight_format_name(const QuantSpec& spec);
std::string_view input_format_name(InputQuant::Kind kind);
std::string_view layout_name(Layout layout);

// Why a matrix of `shape` cannot take `format` in `layout`; nothing when it can.
std::optional<std::string> why_not(const Shape& shape, const LinearFormat& format, Layout layout);

}  // namespace halftone

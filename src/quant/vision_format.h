#pragma once
// Formats for a whole vision tower: what `vision: fp8` in a recipe and --vision say. The linear layers of its blocks get
// weights by output and inputs by token, scaled as they come, so that no matrix is too odd for them and no picture needs
// to be seen before. The patch embedding, norms and the projector stay as they are.

#include <array>
#include <string_view>

#include "quant/format_names.h"

namespace halftone {

inline constexpr std::array<std::string_view, 3> kVisionFormats{"bf16", "fp8", "int8"};

bool is_vision_format(std::string_view name);
// "bf16" -> nothing is quantized; "fp8" -> e4m3_channel, e4m3_token; "int8" -> int8_channel, int8_token.
LinearFormat vision_linear_format(std::string_view name);

}  // namespace halftone

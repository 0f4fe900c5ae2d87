#include "quant/vision_format.h"

#include <algorithm>

namespace halftone {

bool is_vision_format(std::string_view name) {
  return std::find(kVisionFormats.begin(), kVisionFormats.end(), name) != kVisionFormats.end();
}

LinearFormat vision_linear_format(std::string_view name) {
  using enum InputQuant::Kind;
  if (name == "fp8") return {weight_format_from_name("e4m3_channel", "vision"), kDynamicE4M3};
  if (name == "int8") return {weight_format_from_name("int8_channel", "vision"), kDynamicInt8};
  return {};
}

}  // namespace halftone

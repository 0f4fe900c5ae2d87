#pragma once
// Scales of the blocks in which inputs are rounded, as formats/block_scales.h has them, by an InputQuant.

#include "formats/block_scales.h"
#include "tensor/qtensor.h"

namespace halftone {

// The kinds that have two rules: `inverse` of all others is false.
constexpr bool has_two_rules(InputQuant::Kind kind) {
  return kind == InputQuant::Kind::kDynamicNvfp4 || kind == InputQuant::Kind::kDynamicMxfp8 ||
         kind == InputQuant::Kind::kDynamicMxfp4;
}

// NVFP4: the block's scale, a value of E4M3; 0 where it underflows.
inline float nvfp4_block_scale(const InputQuant& input, float amax) {
  return block_scales::nvfp4(input.scale, input.inverse, amax);
}

// NVFP4: what inputs are divided by.
inline float nvfp4_step(const InputQuant& input, float block) {
  return block_scales::nvfp4_step(input.scale, input.inverse, block);
}

// MXFP4, MXFP8: what inputs are divided by and codes multiplied by.
inline float mx_step(const InputQuant& input, float amax) {
  return block_scales::mx_step(input.kind == InputQuant::Kind::kDynamicMxfp4, input.inverse, amax);
}

}  // namespace halftone

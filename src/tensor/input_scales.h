#pragma once
// Scales of the blocks in which inputs are rounded, from a block's largest magnitude: with InputQuant::inverse, for
// checkpoints of compressed-tensors, by its arithmetic, else by ModelOpt's; they differ in the last place (NVFP4) or in the power of two (MX).
// Sources: compressed_tensors calculate_qparams, generate_mx_scales; modelopt nvfp4_quant.py, mxfp8_tensor.py.

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/mx.h"
#include "tensor/qtensor.h"

namespace halftone {

// The kinds that have two rules: `inverse` of all others is false.
constexpr bool has_two_rules(InputQuant::Kind kind) {
  return kind == InputQuant::Kind::kDynamicNvfp4 || kind == InputQuant::Kind::kDynamicMxfp8 ||
         kind == InputQuant::Kind::kDynamicMxfp4;
}

// NVFP4: the block's scale, a value of E4M3; 0 where it underflows.
inline float nvfp4_block_scale(const InputQuant& input, float amax) {
  const float scale = input.inverse ? input.scale * (amax / e2m1::kMax) : amax / (e2m1::kMax * input.scale);
  return e4m3::decode(e4m3::encode_saturated(scale));
}

// NVFP4: what inputs are divided by.
inline float nvfp4_step(const InputQuant& input, float block) {
  return input.inverse ? block / input.scale : block * input.scale;
}

// MXFP4, MXFP8: what inputs are divided by and codes multiplied by.
inline float mx_step(const InputQuant& input, float amax) {
  const bool fp4 = input.kind == InputQuant::Kind::kDynamicMxfp4;
  if (input.inverse) return e8m0::decode(mx::scale_rounded(amax, fp4 ? 2 : 8, 1));
  return e8m0::decode(mx::scale_ceil(amax, fp4 ? e2m1::kMax : e4m3::kMax));
}

}  // namespace halftone

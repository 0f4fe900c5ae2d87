#pragma once
// Scales of blocks of inputs from a block's largest magnitude. Two rules each: `inverse` is compressed-tensors', whose files
// store the reciprocal of NVFP4's second level, else ModelOpt's; they differ in the last place (NVFP4) or in the power of two
// (MX). Sources: compressed_tensors calculate_qparams, generate_mx_scales; modelopt nvfp4_quant.py, mxfp8_tensor.py.

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/mx.h"

namespace halftone::block_scales {

// NVFP4: the block's scale, a value of E4M3; 0 where it underflows. `second`: the second level as the file stores it.
constexpr float nvfp4(float second, bool inverse, float amax) {
  const float scale = inverse ? second * (amax / e2m1::kMax) : amax / (e2m1::kMax * second);
  return e4m3::decode(e4m3::encode_saturated(scale));
}

// NVFP4: what inputs are divided by.
constexpr float nvfp4_step(float second, bool inverse, float block) {
  return inverse ? block / second : block * second;
}

// MXFP4, MXFP8: what inputs are divided by and codes multiplied by.
constexpr float mx_step(bool fp4, bool inverse, float amax) {
  if (inverse) return e8m0::decode(mx::scale_rounded(amax, fp4 ? 2 : 8, 1));
  return e8m0::decode(mx::scale_ceil(amax, fp4 ? e2m1::kMax : e4m3::kMax));
}

}  // namespace halftone::block_scales

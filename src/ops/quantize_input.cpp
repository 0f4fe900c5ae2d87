// x' of linear.h: the input of a product as its kernels see it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"
#include "ops/linear_kernels.h"
#include "tensor/input_scales.h"

namespace halftone {
namespace {

// A block whose scale underflows to zero becomes zero.
void quantize_nvfp4_block(const float* x, std::int64_t count, const InputQuant& input, float* out) {
  float amax = 0;
  for (std::int64_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(x[i]));
  const float block = nvfp4_block_scale(input, amax), step = nvfp4_step(input, block);
  for (std::int64_t i = 0; i < count; ++i) out[i] = step > 0 ? e2m1::decode(e2m1::encode(x[i] / step)) * block : 0.0f;
}

// Infinity where a value is not a number either.
float magnitude_of(const float* x, std::int64_t count) {
  float amax = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!(std::fabs(x[i]) <= amax)) amax = std::isnan(x[i]) ? std::numeric_limits<float>::infinity() : std::fabs(x[i]);
  }
  return amax;
}

// By token, by 128 or by tensor: out is the code alone.
void quantize_values(const float* x, std::int64_t count, bool integers, float scale, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float quotient = x[i] / scale;
    out[i] = integers ? static_cast<float>(integer::encode(quotient, integer::kInt8Min, integer::kInt8Max))
                      : e4m3::decode(e4m3::encode_saturated(quotient));
  }
}

// A block without a finite largest magnitude becomes NaN.
void quantize_group(const float* x, std::int64_t count, float* out) {
  const float scale = magnitude_of(x, count) / e4m3::kMax;
  const bool finite = scale <= std::numeric_limits<float>::max();
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = scale > 0 && finite ? e4m3::decode(e4m3::encode_saturated(x[i] / scale)) : 0.0f;
    out[i] = finite ? code * scale : std::numeric_limits<float>::quiet_NaN();
  }
}

// The same with an E8M0 scale.
void quantize_mx_block(const float* x, std::int64_t count, const InputQuant& input, float* out) {
  const bool fp4 = input.kind == InputQuant::Kind::kDynamicMxfp4;
  const float amax = magnitude_of(x, count);
  const bool finite = amax <= std::numeric_limits<float>::max();
  const float step = mx_step(input, amax);
  for (std::int64_t i = 0; i < count; ++i) {
    const float quotient = x[i] / step;
    const float code = fp4 ? e2m1::decode(e2m1::encode(quotient)) : e4m3::decode(e4m3::encode_saturated(quotient));
    out[i] = finite ? code * step : std::numeric_limits<float>::quiet_NaN();
  }
}

void quantize_block(const float* x, std::int64_t count, const InputQuant& input, float* out) {
  switch (input.kind) {
    case InputQuant::Kind::kDynamicNvfp4:
      return quantize_nvfp4_block(x, count, input, out);
    case InputQuant::Kind::kDynamicE4M3Group:
      return quantize_group(x, count, out);
    default:
      return quantize_mx_block(x, count, input, out);
  }
}

}  // namespace

float quantize_row_reference(const float* x, std::int64_t cols, const InputQuant& input, float* out) {
  switch (input.kind) {
    case InputQuant::Kind::kNone:
      if (out != x) std::copy(x, x + cols, out);
      return 1.0f;
    case InputQuant::Kind::kStaticInt8:
    case InputQuant::Kind::kStaticE4M3:
      quantize_values(x, cols, is_int8(input.kind), input.step(), out);
      return input.step();
    case InputQuant::Kind::kDynamicInt8:
    case InputQuant::Kind::kDynamicE4M3: {
      const float scale = token_scale(input.kind, magnitude_of(x, cols));
      quantize_values(x, cols, is_int8(input.kind), scale, out);
      return scale;
    }
    default: {
      const std::int64_t block = input_block(input.kind);
      for (std::int64_t k = 0; k < cols; k += block) quantize_block(x + k, std::min(block, cols - k), input, out + k);
      return input.step();
    }
  }
}

void quantize_input_reference(const Tensor& x, const InputQuant& input, Tensor& codes, Tensor& scales) {
  require(x.rank() == 2 && codes.shape() == x.shape() && scales.shape() == Shape{x.dim(0)}, "quantize_input",
          "expected codes {} and a scale for each row, got {} and {}", to_string(x.shape()), to_string(codes.shape()),
          to_string(scales.shape()));
  for (std::int64_t m = 0; m < x.dim(0); ++m) {
    const std::int64_t at = m * x.dim(1);
    scales.data<float>()[m] = quantize_row_reference(x.data<float>() + at, x.dim(1), input, codes.data<float>() + at);
  }
}

}  // namespace halftone

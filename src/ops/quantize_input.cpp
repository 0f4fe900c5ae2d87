// x' of linear.h: the input of a product as its kernels see it.
#include <algorithm>
#include <cmath>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"
#include "ops/linear_kernels.h"

namespace halftone {
namespace {

constexpr std::int64_t kNvfp4Block = 16;

// A block whose scale underflows to zero becomes zero.
void quantize_nvfp4_block(const float* x, std::int64_t count, float scale, float* out) {
  float amax = 0;
  for (std::int64_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(x[i]));
  const float block = e4m3::decode(e4m3::encode_saturated(amax / e2m1::kMax / scale));
  const float step = block * scale;
  for (std::int64_t i = 0; i < count; ++i) out[i] = step > 0 ? e2m1::decode(e2m1::encode(x[i] / step)) * block : 0.0f;
}

}  // namespace

void quantize_row_reference(const float* x, std::int64_t cols, const InputQuant& input, float* out) {
  switch (input.kind) {
    case InputQuant::Kind::kNone:
      if (out != x) std::copy(x, x + cols, out);
      return;
    case InputQuant::Kind::kStaticInt8:
      for (std::int64_t k = 0; k < cols; ++k) {
        out[k] = static_cast<float>(integer::encode(x[k] / input.scale, integer::kInt8Min, integer::kInt8Max));
      }
      return;
    case InputQuant::Kind::kStaticE4M3:
      for (std::int64_t k = 0; k < cols; ++k) out[k] = e4m3::decode(e4m3::encode_saturated(x[k] / input.scale));
      return;
    case InputQuant::Kind::kDynamicNvfp4:
      for (std::int64_t k = 0; k < cols; k += kNvfp4Block) {
        quantize_nvfp4_block(x + k, std::min(kNvfp4Block, cols - k), input.scale, out + k);
      }
      return;
  }
}

void quantize_input_reference(const Tensor& x, const InputQuant& input, Tensor& codes) {
  require(x.rank() == 2 && codes.shape() == x.shape(), "quantize_input", "expected {}, got {}", to_string(x.shape()),
          to_string(codes.shape()));
  for (std::int64_t m = 0; m < x.dim(0); ++m) {
    quantize_row_reference(x.data<float>() + m * x.dim(1), x.dim(1), input, codes.data<float>() + m * x.dim(1));
  }
}

}  // namespace halftone

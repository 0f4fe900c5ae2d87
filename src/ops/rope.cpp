#include "ops/rope.h"

#include "formats/bf16.h"
#include "ops/backend.h"
#include "ops/rope_kernels.h"

namespace halftone {

void rotate_reference(const float* cos, const float* sin, std::int64_t half, Numerics numerics, float* x) {
  const auto round = [numerics](float v) { return numerics == Numerics::kBF16 ? bf16::round(v) : v; };
  for (std::int64_t j = 0; j < half; ++j) {
    const float low = x[j], high = x[j + half];
    x[j] = round(round(low * cos[j]) - round(high * sin[j]));
    x[j + half] = round(round(high * cos[j]) + round(low * sin[j]));
  }
}

void rope(const Tensor& cos, const Tensor& sin, Numerics numerics, Tensor& x, Stream& stream) {
  require(x.rank() == 3 && x.dim(2) % 2 == 0, "rope", "expected [tokens, heads, even d], got {}", to_string(x.shape()));
  const Shape table{x.dim(0), x.dim(2) / 2};
  require(cos.shape() == table && sin.shape() == table, "rope", "expected tables {}, got {} and {}", to_string(table),
          to_string(cos.shape()), to_string(sin.shape()));
  require_cpu(stream, "rope");
  const std::int64_t heads = x.dim(1), half = table[1];
  const float *cosines = cos.data<float>(), *sines = sin.data<float>();
  float* values = x.data<float>();
  for_ranges(stream, x.dim(0), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * heads; i < end * heads; ++i) {
      rotate_cpu(cosines + i / heads * half, sines + i / heads * half, half, numerics, values + i * 2 * half);
    }
  });
}

}  // namespace halftone

#include "ops/elementwise.h"

#include "formats/bf16.h"

namespace halftone {

void round_to(Numerics numerics, Tensor& y, Stream&) {
  if (numerics != Numerics::kBF16) return;
  float* values = y.data<float>();
  for (std::int64_t i = 0; i < y.numel(); ++i) values[i] = bf16::round(values[i]);
}

}  // namespace halftone

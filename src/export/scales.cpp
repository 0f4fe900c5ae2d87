#include "export/scales.h"

#include <cmath>

namespace halftone {

Tensor exact_scales(const Tensor& scales, DType dtype, std::string_view name) {
  require(scales.defined(), "export", "tensor '{}': expected scales, got none", name);
  const Tensor wanted = to_f32(scales);
  const Tensor stored = from_f32(wanted, dtype);
  const Tensor back = to_f32(stored);
  for (std::int64_t i = 0; i < wanted.numel(); ++i) {
    const float a = wanted.data<float>()[i], b = back.data<float>()[i];
    require(std::isfinite(a) && a >= 0, "export", "tensor '{}': expected finite scales of 0 or more, got {} at {}",
            name, a, i);
    require(a == b, "export", "tensor '{}': expected scales that {} holds exactly, got {} at {} (it would become {})",
            name, dtype_name(dtype), a, i, b);
  }
  return scales.dtype() == dtype ? scales : stored;
}

}  // namespace halftone

#include "hf/module_reader.h"

#include <cmath>

namespace halftone {

Tensor ModuleReader::get(std::string_view part, std::initializer_list<DType> dtypes, std::string_view rule) const {
  require(has(part), source(part), "tensor '{}': missing; the configuration says {}", name(part), rule);
  const Tensor found = tensor(part);
  for (const DType dtype : dtypes) {
    if (found.dtype() == dtype) return found;
  }
  fail(source(part), "tensor '{}': expected {}{}, found {}; the configuration says {}", name(part),
       dtype_name(*dtypes.begin()), dtypes.size() > 1 ? " or another of its kind" : "", dtype_name(found.dtype()),
       rule);
}

void ModuleReader::expect_shape(std::string_view part, const Tensor& tensor, const Shape& expected,
                                std::string_view rule) const {
  require(tensor.shape() == expected, source(part), "tensor '{}': expected shape {} for {}, found {}", name(part),
          to_string(expected), rule, to_string(tensor.shape()));
}

void ModuleReader::check_scales(std::string_view part, const Tensor& scales, bool any_sign) const {
  const Tensor values = to_f32(scales);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const float scale = values.data<float>()[i];
    if (std::isfinite(scale) && (any_sign || scale >= 0)) continue;
    fail(source(part), "tensor '{}': expected finite scales{}, found {} at {}", name(part),
         any_sign ? "" : " of 0 or more", scale, i);
  }
}

float ModuleReader::read_scalar(std::string_view part, std::string_view rule) const {
  const Tensor number = get(part, {DType::kF32, DType::kBF16, DType::kF16}, rule);
  require(number.numel() == 1, source(part), "tensor '{}': expected one number, found shape {}", name(part),
          to_string(number.shape()));
  const float value = to_f32(number).data<float>()[0];
  require(std::isfinite(value) && value > 0, source(part), "tensor '{}': expected a finite number above 0, found {}",
          name(part), value);
  return value;
}

}  // namespace halftone

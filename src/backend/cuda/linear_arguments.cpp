#include "backend/cuda/linear_arguments.h"

#include "backend/cuda/prepare_input.h"

namespace halftone::cuda {
namespace {

CodeType code_type(Element element) {
  switch (element) {
    case Element::kBF16:
      return CodeType::kBF16;
    case Element::kInt8:
      return CodeType::kInt8;
    case Element::kE4M3:
      return CodeType::kE4M3;
    default:
      return CodeType::kInt4;
  }
}

ScaleType scale_type(DType dtype) {
  return dtype == DType::kF32 ? ScaleType::kF32 : dtype == DType::kBF16 ? ScaleType::kBF16 : ScaleType::kF16;
}

}  // namespace

LinearArguments weight_arguments(const LinearWeight& weight) {
  LinearArguments arguments{};
  arguments.codes = static_cast<const char*>(weight.codes);
  arguments.row_bytes = weight.row_bytes;
  arguments.group_scales = weight.group_scales;
  arguments.group_zeros = weight.group_zeros;
  arguments.row_scales = weight.row_scales;
  arguments.row_factors = weight.row_factors;
  arguments.bias = weight.bias;
  arguments.code_type = code_type(weight.spec.element);
  arguments.group_scale_type = scale_type(weight.group_scale_type);
  arguments.integers = weight.multiplies_integers();
  arguments.n = static_cast<int>(weight.rows);
  arguments.k = static_cast<int>(weight.cols);
  arguments.group = static_cast<int>(weight.group);
  return arguments;
}

LinearArguments linear_arguments(const LinearWeight& weight, const LinearCall& call) {
  LinearArguments arguments = weight_arguments(weight);
  arguments.x_scales = call.x_scales;
  arguments.x = static_cast<const char*>(call.x.data);
  arguments.x_stride = call.x.stride * static_cast<std::int64_t>(dtype_size(call.x.dtype));
  arguments.y = call.y.data;
  arguments.y_stride = call.y.stride;
  arguments.residual = static_cast<const std::uint16_t*>(call.residual.data);
  arguments.residual_stride = call.residual.stride;
  arguments.y_f32 = call.y.dtype == DType::kF32;
  arguments.silu_mul = call.silu_mul;
  arguments.m = static_cast<int>(call.x.rows);
  arguments.prepares = call.prepares;
  if (call.prepares) arguments.in = input_rows(call.x, call.norm, call.eps, weight.input);
  return arguments;
}

}  // namespace halftone::cuda

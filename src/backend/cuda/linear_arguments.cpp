#include "backend/cuda/linear_arguments.h"

#include <bit>

#include "backend/cuda/prepare_input.h"

namespace halftone::cuda {
namespace {

ScaleType scale_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return ScaleType::kBF16;
    case DType::kF16:
      return ScaleType::kF16;
    case DType::kF8E4M3:
      return ScaleType::kE4M3;
    case DType::kF8E8M0:
      return ScaleType::kE8M0;
    default:
      return ScaleType::kF32;
  }
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
  arguments.group_shifts = weight.group_shifts;
  arguments.code_type = weight.code_type();
  arguments.scaling = weight.scaling();
  arguments.halves = weight.halves();
  arguments.group_scale_type = scale_type(weight.group_scale_type);
  arguments.integers = weight.multiplies_integers();
  arguments.n = static_cast<int>(weight.rows);
  arguments.k = static_cast<int>(weight.cols);
  arguments.group = static_cast<int>(weight.group);
  arguments.group_stride = static_cast<int>(weight.group_stride());
  arguments.group_shift = std::bit_width(static_cast<std::uint64_t>(weight.group)) - 1;
  return arguments;
}

LinearArguments linear_arguments(const LinearWeight& weight, const LinearCall& call) {
  LinearArguments arguments = weight_arguments(weight);
  if (scales_groups(weight.input.kind)) {
    arguments.x_group_scales = call.x_scales;
    arguments.x_groups = static_cast<int>(input_scale_count(weight.input.kind, weight.cols));
  } else {
    arguments.x_scales = call.x_scales;
  }
  arguments.integers = weight.multiplies_integers() && (call.prepares || call.x.dtype == DType::kI8);
  arguments.e4m3 = weight.multiplies_e4m3() && (call.prepares || call.x.dtype == DType::kF8E4M3);
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

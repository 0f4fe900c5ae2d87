#include "backend/cuda/prepare_input.h"

#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/prepare_input.h"
#include "backend/cuda/op_profile.h"
#include "ops/linear_kernels.h"

namespace halftone::cuda {

namespace {

InputCodes input_codes(InputQuant::Kind kind) {
  switch (kind) {
    case InputQuant::Kind::kNone:
      return InputCodes::kNone;
    case InputQuant::Kind::kStaticInt8:
    case InputQuant::Kind::kDynamicInt8:
      return InputCodes::kInt8;
    case InputQuant::Kind::kStaticE4M3:
    case InputQuant::Kind::kDynamicE4M3:
      return InputCodes::kE4M3;
    case InputQuant::Kind::kDynamicNvfp4:
      return InputCodes::kNvfp4;
    case InputQuant::Kind::kDynamicE4M3Group:
      return InputCodes::kE4M3Group;
    case InputQuant::Kind::kDynamicMxfp8:
      return InputCodes::kMxfp8;
    default:
      return InputCodes::kMxfp4;
  }
}

}  // namespace

InputRows input_rows(const DeviceMatrix& x, const float* norm, float eps, const InputQuant& input) {
  const InputQuant::Kind kind = input.kind;
  InputRows rows{};
  rows.x = static_cast<const std::uint16_t*>(x.data);
  rows.x_stride = x.stride;
  rows.norm = norm;
  rows.eps = eps;
  rows.step = input.step();
  rows.codes = input_codes(kind);
  rows.inverse = input.inverse;
  rows.second = input.scale;
  rows.block = static_cast<int>(input_block(kind));
  rows.by_token = scales_tokens(kind);
  rows.aligned = reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.stride % 8 == 0 &&
                 reinterpret_cast<std::uintptr_t>(norm) % 16 == 0;
  rows.rows = static_cast<int>(x.rows);
  rows.cols = static_cast<int>(x.cols);
  rows.inverse_cols = 1.0 / static_cast<double>(x.cols);
  return rows;
}

void prepare_input(const PrepareInput& call, const Launch& launch) {
  constexpr std::string_view kWhere = "cuda prepare_input";
  const InputQuant::Kind kind = call.input.kind;
  const std::int64_t cols = call.y.cols, wide = call.silu_mul ? 2 * cols : cols;
  require(call.x.data && call.x.dtype == DType::kBF16 && call.y.data && call.x.rows == call.y.rows &&
              call.x.cols == wide && call.x.stride >= wide && call.y.stride >= cols,
          kWhere, "expected BF16 [{}, {}] for [{}, {}], got {} [{}, {}]", call.y.rows, wide, call.y.rows, cols,
          dtype_name(call.x.dtype), call.x.rows, call.x.cols);
  const bool e4m3 = kind == InputQuant::Kind::kStaticE4M3 || kind == InputQuant::Kind::kDynamicE4M3 ||
                    (scales_groups(kind) && call.y_scales);
  require(call.y.dtype == DType::kBF16 || (call.y.dtype == DType::kI8 && is_int8(kind)) ||
              (call.y.dtype == DType::kF8E4M3 && e4m3),
          kWhere, "codes go to BF16 or to their own dtype, got {}", dtype_name(call.y.dtype));
  require(scales_groups(kind) || (call.y_scales != nullptr) == scales_tokens(kind), kWhere,
          "scales of tokens are written where they differ, and there alone");
  if (call.y.rows == 0 || cols == 0) return;
  PrepareInputArguments arguments{};
  arguments.in = input_rows(columns_of(call.x, 0, cols), call.norm, call.eps, call.input);
  arguments.gates = call.silu_mul;
  if (call.silu_mul && cols % 8 != 0) arguments.in.aligned = false;  // values follow the gates
  arguments.y = call.y.data;
  arguments.y_stride = call.y.stride;
  arguments.y_bytes = call.y.dtype != DType::kBF16;
  arguments.y_scales = call.y_scales;
  if (scales_groups(kind)) arguments.in.group_scales = call.y_scales;
  const ProfiledOp watched(
      launch, "prepare_input",
      static_cast<double>(call.x.rows * (2 * wide + cols * static_cast<std::int64_t>(dtype_size(call.y.dtype)))));
  start_prepare_input(arguments, launch);
}

void arrange_input(const ArrangeInput& call, const Launch& launch) {
  const DeviceMatrix &x = call.x, &y = call.y;
  require(x.data && y.data && x.data != y.data && x.dtype == DType::kBF16 && y.dtype == DType::kBF16 &&
              x.rows == y.rows && x.cols == y.cols && x.stride >= x.cols && y.stride >= y.cols,
          "cuda arrange_input", "expected two matrices BF16 of one shape, got {} [{}, {}] and {} [{}, {}]",
          dtype_name(x.dtype), x.rows, x.cols, dtype_name(y.dtype), y.rows, y.cols);
  if (x.rows == 0 || x.cols == 0) return;
  const ProfiledOp watched(launch, "arrange_input", 4.0 * static_cast<double>(x.rows * x.cols));
  start_arrange_input(
      {static_cast<const std::uint16_t*>(x.data), x.stride, call.scales, call.order,
       static_cast<std::uint16_t*>(y.data), y.stride, static_cast<int>(x.rows), static_cast<int>(x.cols)},
      launch);
}

}  // namespace halftone::cuda

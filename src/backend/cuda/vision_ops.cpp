#include "backend/cuda/vision_ops.h"

#include <string_view>

#include "backend/cuda/device/vision_ops.h"
#include "backend/cuda/op_profile.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

bool aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

void check_matrix(const DeviceMatrix& matrix, DType dtype, std::int64_t rows, std::int64_t cols,
                  std::string_view where) {
  const auto stride_bytes = matrix.stride * static_cast<std::int64_t>(dtype_size(dtype));
  require(matrix.data && matrix.dtype == dtype && matrix.rows == rows && matrix.cols == cols && matrix.stride >= cols &&
              cols % 8 == 0 && stride_bytes % 16 == 0 && aligned(matrix.data),
          where,
          "expected {} [{}, {}], columns a multiple of 8, rows at multiples of 16 bytes, got {} [{}, {}], stride {}",
          dtype_name(dtype), rows, cols, dtype_name(matrix.dtype), matrix.rows, matrix.cols, matrix.stride);
}

double elements(const DeviceMatrix& matrix) { return static_cast<double>(matrix.rows * matrix.cols); }

std::uint16_t* bf16_data(const DeviceMatrix& matrix) { return static_cast<std::uint16_t*>(matrix.data); }

void activate(const DeviceMatrix& x, Activation activation, std::string_view where, const Launch& launch) {
  check_matrix(x, DType::kBF16, x.rows, x.cols, where);
  if (x.rows == 0 || x.cols == 0) return;
  const ProfiledOp watched(launch, where.substr(5), 4 * elements(x));
  start_activate({bf16_data(x), x.stride, activation, static_cast<int>(x.rows), static_cast<int>(x.cols)}, launch);
}

}  // namespace

void layer_norm(const LayerNorm& call, const Launch& launch) {
  constexpr std::string_view kWhere = "cuda layer_norm";
  check_matrix(call.x, DType::kBF16, call.y.rows, call.y.cols, kWhere);
  check_matrix(call.y, DType::kBF16, call.y.rows, call.y.cols, kWhere);
  if (call.added.data) check_matrix(call.added, DType::kBF16, call.y.rows, call.y.cols, kWhere);
  require(call.weight && call.bias && aligned(call.weight) && aligned(call.bias) && call.y.cols <= kMostNormCols,
          kWhere, "expected weights and biases of up to {} columns at multiples of 16 bytes, got {} columns",
          kMostNormCols, call.y.cols);
  if (call.y.rows == 0 || call.y.cols == 0) return;
  const ProfiledOp watched(launch, "layer_norm", (call.added.data ? 8 : 4) * elements(call.y));
  start_layer_norm(
      {bf16_data(call.x), bf16_data(call.added), call.x.stride, call.added.stride, call.weight, call.bias, call.eps,
       bf16_data(call.y), call.y.stride, static_cast<int>(call.y.rows), static_cast<int>(call.y.cols)},
      launch);
}

void quick_gelu(const DeviceMatrix& x, const Launch& launch) {
  activate(x, Activation::kQuickGelu, "cuda quick_gelu", launch);
}

void gelu_erf(const DeviceMatrix& x, const Launch& launch) {
  activate(x, Activation::kGeluErf, "cuda gelu_erf", launch);
}

void rotate_heads(const DeviceMatrix& x, std::int64_t heads, const float* cos, const float* sin, const Launch& launch) {
  constexpr std::string_view kWhere = "cuda rotate_heads";
  check_matrix(x, DType::kBF16, x.rows, x.cols, kWhere);
  require(heads > 0 && x.cols % heads == 0 && x.cols / heads % 8 == 0, kWhere,
          "{} columns are not {} heads of a multiple of 8 dimensions", x.cols, heads);
  require(cos && sin && aligned(cos) && aligned(sin), kWhere, "expected rotations at multiples of 16 bytes");
  if (x.rows == 0 || x.cols == 0) return;
  const ProfiledOp watched(launch, "rotate_heads", 4 * elements(x));
  start_rotate_heads({bf16_data(x), x.stride, cos, sin, static_cast<int>(x.rows), static_cast<int>(heads),
                      static_cast<int>(x.cols / heads)},
                     launch);
}

void round_rows(const DeviceMatrix& x, const DeviceMatrix& y, const Launch& launch) {
  check_matrix(x, DType::kF32, y.rows, y.cols, "cuda round_rows");
  check_matrix(y, DType::kBF16, y.rows, y.cols, "cuda round_rows");
  if (y.rows == 0 || y.cols == 0) return;
  const ProfiledOp watched(launch, "round_rows", 6 * elements(x));
  start_round_rows({static_cast<const float*>(x.data), x.stride, bf16_data(y), y.stride, static_cast<int>(y.rows),
                    static_cast<int>(y.cols)},
                   launch);
}

}  // namespace halftone::cuda

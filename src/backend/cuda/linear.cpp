#include "backend/cuda/linear.h"

#include "backend/cuda/device/linear.h"
#include "backend/cuda/linear_blas.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda linear";

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

LinearArguments arguments_of(const LinearWeight& weight, const LinearCall& call) {
  LinearArguments arguments{};
  arguments.codes = static_cast<const char*>(weight.codes);
  arguments.row_bytes = weight.row_bytes;
  arguments.group_scales = weight.group_scales;
  arguments.group_zeros = weight.group_zeros;
  arguments.row_scales = weight.row_scales;
  arguments.row_factors = weight.row_factors;
  arguments.bias = weight.bias;
  arguments.x_scales = call.x_scales;
  arguments.x = static_cast<const char*>(call.x.data);
  arguments.x_stride = call.x.stride * static_cast<std::int64_t>(dtype_size(call.x.dtype));
  arguments.y = call.y.data;
  arguments.y_stride = call.y.stride;
  arguments.residual = static_cast<const std::uint16_t*>(call.residual.data);
  arguments.residual_stride = call.residual.stride;
  arguments.code_type = code_type(weight.spec.element);
  arguments.group_scale_type = weight.group_scale_type == DType::kF32    ? ScaleType::kF32
                               : weight.group_scale_type == DType::kBF16 ? ScaleType::kBF16
                                                                         : ScaleType::kF16;
  arguments.y_f32 = call.y.dtype == DType::kF32;
  arguments.integers = weight.multiplies_integers();
  arguments.silu_mul = call.silu_mul;
  arguments.m = static_cast<int>(call.x.rows);
  arguments.n = static_cast<int>(weight.rows);
  arguments.k = static_cast<int>(weight.cols);
  arguments.group = static_cast<int>(weight.group);
  return arguments;
}

// Warps of a block: a function of the weight alone, for the order of summation hangs on it. A small weight's few blocks need
// many of them to have enough of it under way.
int choose_warps(const LinearWeight& weight) {
  constexpr std::int64_t kFewRows = 4224;
  const int chunk = decode_chunk(code_type(weight.spec.element));
  const std::int64_t chunks = (weight.cols + chunk - 1) / chunk;
  const bool few = weight.rows <= kFewRows;
  const int most = few ? 16 : 8, chunks_a_warp = few ? 3 : 8;
  int warps = 4;
  while (warps < most && chunks >= 2 * warps * chunks_a_warp) warps *= 2;
  return warps;
}

bool decode_supports(const LinearWeight& weight, const LinearCall& call) {
  const auto address = reinterpret_cast<std::uintptr_t>(call.x.data);
  const std::int64_t stride = call.x.stride * static_cast<std::int64_t>(dtype_size(call.x.dtype));
  const bool scales = weight.group_scales
                          ? weight.spec.element == Element::kInt4 && weight.group == decode_chunk(CodeType::kInt4)
                          : !weight.spec.asymmetric;
  const bool pairs = !call.silu_mul || weight.rows % (2 * kTileRows) == 0;
  return call.x.rows <= kDecodeTokens && address % 16 == 0 && stride % 16 == 0 && scales && pairs;
}

constexpr LinearRow kRows[] = {
    {"decode", decode_supports,
     [](const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
       start_linear_decode(arguments_of(weight, call), choose_warps(weight), launch);
     }},
    {"cublas", linear_blas_supports, run_linear_blas},
    {"any", [](const LinearWeight&, const LinearCall& call) { return !call.silu_mul; },
     [](const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
       start_linear_any(arguments_of(weight, call), launch);
     }},
};

void check_call(const LinearWeight& weight, const LinearCall& call) {
  const DType x_type = weight.multiplies_integers() ? DType::kI8 : DType::kBF16;
  require(call.x.data && call.x.dtype == x_type && call.x.cols == weight.cols && call.x.stride >= weight.cols, kWhere,
          "expected an input {} [tokens, {}], got {} [{}, {}]", dtype_name(x_type), weight.cols,
          dtype_name(call.x.dtype), call.x.rows, call.x.cols);
  const bool y_type = call.y.dtype == DType::kBF16 || call.y.dtype == DType::kF32;
  const std::int64_t outputs = call.silu_mul ? weight.rows / 2 : weight.rows;
  require(call.y.data && y_type && call.y.rows == call.x.rows && call.y.cols == outputs && call.y.stride >= outputs,
          kWhere, "expected an output BF16 or F32 [{}, {}], got {} [{}, {}]", call.x.rows, outputs,
          dtype_name(call.y.dtype), call.y.rows, call.y.cols);
  require(!call.silu_mul || (weight.rows % 2 == 0 && call.y.dtype == DType::kBF16 && !call.residual.data), kWhere,
          "the product of gates and values is BF16, of an even number of rows and without a residual");
  require((call.x_scales != nullptr) == scales_tokens(weight.input.kind), kWhere,
          "scales of tokens are needed where they differ, and there alone");
  if (!call.residual.data) return;
  require(call.y.dtype == DType::kBF16 && call.residual.dtype == DType::kBF16 && call.residual.rows == call.y.rows &&
              call.residual.cols == call.y.cols && call.residual.stride >= call.y.cols,
          kWhere, "a residual and its output are BF16 of one shape");
}

}  // namespace

std::span<const LinearRow> linear_rows() { return kRows; }

void linear(const LinearWeight& weight, const LinearCall& call, const Launch& launch, std::string_view kernel) {
  check_call(weight, call);
  if (call.x.rows == 0 || weight.rows == 0) return;
  for (const LinearRow& row : kRows) {
    if ((kernel.empty() || row.name == kernel) && row.supports(weight, call)) return row.run(weight, call, launch);
  }
  fail(kWhere, "no kernel '{}' for {} with {} tokens", kernel, to_string(weight.spec), call.x.rows);
}

}  // namespace halftone::cuda

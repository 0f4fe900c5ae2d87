#include "backend/cuda/linear.h"

#include "backend/cuda/device/linear.h"
#include "backend/cuda/linear_arguments.h"
#include "backend/cuda/linear_prompt.h"
#include "backend/cuda/op_profile.h"
#include "backend/cuda/prepare_input.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda linear";

// Warps of a block: a function of the weight alone, for the order of summation hangs on it. A small weight's few blocks need
// many of them to have enough of it under way.
int choose_warps(const LinearWeight& weight) {
  constexpr std::int64_t kFewRows = 4224;
  const int chunk = decode_chunk(weight.code_type());
  const std::int64_t chunks = (weight.cols + chunk - 1) / chunk;
  const bool few = weight.rows <= kFewRows;
  const int most = few ? 16 : 8, chunks_a_warp = few ? 3 : 8;
  int warps = 4;
  while (warps < most && chunks >= 2 * warps * chunks_a_warp) warps *= 2;
  return warps;
}

// Bytes of an element of x in "decode".
std::int64_t element_bytes(const LinearWeight& weight) {
  return weight.multiplies_integers() || weight.multiplies_e4m3() ? 1 : 2;
}

// Rows are read by 16 bytes.
bool decode_reads(const LinearWeight& weight, const DeviceMatrix& x) {
  const auto address = reinterpret_cast<std::uintptr_t>(x.data);
  const std::int64_t stride = x.stride * static_cast<std::int64_t>(dtype_size(x.dtype));
  return x.rows <= kDecodeTokens && address % 16 == 0 && stride % 16 == 0 && linear_decodes(weight);
}

bool decode_supports(const LinearWeight& weight, const LinearCall& call) {
  const bool pairs = !call.silu_mul || weight.rows % (2 * kTileRows) == 0;
  const bool codes = call.prepares ? linear_prepares(weight, call.x) : call.x.dtype == linear_decode_input(weight);
  return decode_reads(weight, call.x) && codes && pairs;
}

constexpr LinearRow kRows[] = {
    {"decode", decode_supports,
     [](const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
       start_linear_decode(linear_arguments(weight, call), choose_warps(weight), launch);
     }},
    {"cublas", linear_prompt_supports, run_linear_prompt},
    {"any",
     [](const LinearWeight&, const LinearCall& call) {
       return !call.silu_mul && !call.prepares && call.x.dtype != DType::kF8E4M3;
     },
     [](const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
       start_linear_any(linear_arguments(weight, call), launch);
     }},
};

void check_call(const LinearWeight& weight, const LinearCall& call) {
  const DType x_type = weight.multiplies_integers() && !call.prepares ? DType::kI8 : DType::kBF16;
  const bool codes =
      !call.prepares && (call.x.dtype == linear_prompt_input(weight) || call.x.dtype == linear_decode_input(weight));
  require(
      call.x.data && (call.x.dtype == x_type || codes) && call.x.cols == weight.cols && call.x.stride >= weight.cols,
      kWhere, "expected an input {} [tokens, {}], got {} [{}, {}]", dtype_name(x_type), weight.cols,
      dtype_name(call.x.dtype), call.x.rows, call.x.cols);
  const bool y_type = call.y.dtype == DType::kBF16 || call.y.dtype == DType::kF32;
  const std::int64_t outputs = call.silu_mul ? weight.rows / 2 : weight.rows;
  require(call.y.data && y_type && call.y.rows == call.x.rows && call.y.cols == outputs && call.y.stride >= outputs,
          kWhere, "expected an output BF16 or F32 [{}, {}], got {} [{}, {}]", call.x.rows, outputs,
          dtype_name(call.y.dtype), call.y.rows, call.y.cols);
  require(!call.silu_mul || (weight.rows % 2 == 0 && call.y.dtype == DType::kBF16 && !call.residual.data), kWhere,
          "the product of gates and values is BF16, of an even number of rows and without a residual");
  const bool scaled = !call.prepares && scales_tokens(weight.input.kind), groups = scales_groups(weight.input.kind);
  require(groups || (call.x_scales != nullptr) == scaled, kWhere,
          "scales of tokens are needed where they differ, and there alone");
  require(call.prepares || !call.norm, kWhere, "a norm is a part of preparing the input");
  if (!call.residual.data) return;
  require(call.y.dtype == DType::kBF16 && call.residual.dtype == DType::kBF16 && call.residual.rows == call.y.rows &&
              call.residual.cols == call.y.cols && call.residual.stride >= call.y.cols,
          kWhere, "a residual and its output are BF16 of one shape");
}

// "linear/decode int4 group 128 1536x8960"; "native" where codes of 8 bits are multiplied as they are.
std::string name_of(const LinearRow& row, const LinearWeight& weight, const LinearCall& call) {
  const bool native = call.x.dtype != DType::kBF16;
  return fmt::format("linear/{} {}{} {}x{}", row.name, native ? "native " : "", to_string(weight.spec), weight.rows,
                     weight.cols);
}

}  // namespace

DType linear_decode_input(const LinearWeight& weight) {
  if (weight.multiplies_integers()) return DType::kI8;
  return weight.multiplies_e4m3() && linear_decodes(weight) ? DType::kF8E4M3 : DType::kBF16;
}

bool linear_decodes(const LinearWeight& weight) {
  const Scaling scaling = weight.scaling();
  // without clusters rows of x lie in one block's memory
  const int row = staged_stride(static_cast<int>(weight.cols * element_bytes(weight)));
  if (row > kMostStagedBytes && !batch_device().clusters) return false;
  if (!scales_groups(weight.input.kind)) return scaling != Scaling::kOther;
  // the scales of x go with those of a chunk
  return scaling == Scaling::kChunk && weight.code_type() != CodeType::kInt4;
}

bool linear_prepares(const LinearWeight& weight, const DeviceMatrix& x) {
  constexpr std::int64_t kMostTokens = 2;
  return decode_reads(weight, x) && x.rows <= kMostTokens && !scales_groups(weight.input.kind) &&
         x.rows * staged_stride(static_cast<int>(weight.cols * element_bytes(weight))) <= kMostStagedBytes;
}

std::span<const LinearRow> linear_rows() { return kRows; }

void linear(const LinearWeight& weight, const LinearCall& call, const Launch& launch, std::string_view kernel) {
  check_call(weight, call);
  if (call.x.rows == 0 || weight.rows == 0) return;
  for (const LinearRow& row : kRows) {
    if ((!kernel.empty() && row.name != kernel) || !row.supports(weight, call)) continue;
    const std::int64_t m = call.x.rows, n = weight.rows, k = weight.cols;
    const ProfiledOp watched(launch, launch.profile ? name_of(row, weight, call) : "",
                             static_cast<double>(weight.nbytes + 2 * m * (k + call.y.cols)),
                             2.0 * static_cast<double>(m * n * k));
    return row.run(weight, call, launch);
  }
  fail(kWhere, "no kernel '{}' for {} with {} tokens", kernel, to_string(weight.spec), call.x.rows);
}

}  // namespace halftone::cuda

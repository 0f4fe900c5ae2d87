#include "quant/round_to_ggml.h"

#include "ops/ggml_blocks.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

using RoundBlocks = void (*)(const float*, std::int64_t, std::uint8_t*);

RoundBlocks rounding_of(GgmlType type, std::string_view name) {
  switch (type) {
    case GgmlType::kQ8_0:
      return round_q8_0;
    case GgmlType::kQ4_0:
      return round_q4_0;
    case GgmlType::kQ4_K:
      return round_q4_k;
    default:
      fail(name, "expected Q8_0, Q4_0 or Q4_K, got {}", ggml_type_info(type).name);
  }
}

}  // namespace

Tensor round_to_ggml(const Tensor& weight, GgmlType type, std::string_view name, ThreadPool& pool) {
  const RoundBlocks round = rounding_of(type, name);
  const GgmlTypeInfo& info = ggml_type_info(type);
  require(weight.rank() == 2 && weight.numel() > 0 && weight.dim(1) % info.weights == 0, name,
          "expected a matrix with inputs in whole blocks of {}, got shape {}", info.weights, to_string(weight.shape()));
  const std::int64_t cols = weight.dim(1), per_row = cols / info.weights;
  Tensor blocks(DType::kU8, {weight.dim(0), per_row * info.bytes});
  const RoundingJob job{weight, Layout::kGguf, weight.dtype(), DType::kF32, 0, name, pool};
  job.for_rows([&](std::int64_t row, const float* x) {
    job.magnitude(x, cols, row);  // throws for NaN and infinity
    round(x, per_row, blocks.bits<std::uint8_t>() + row * blocks.dim(1));
  });
  return blocks;
}

}  // namespace halftone

#pragma once
// NF4 with double quantization as bitsandbytes has it (Dettmers et al., "QLoRA", 2023). The weights of a matrix are one
// list, row after row:
//   blocks of 64:   a = largest |w|,  code = NF4 level nearest to w / a
//   the a's:        offset = their mean;  in blocks of 256: n = largest |a - offset|, code = dynamic8 nearest to
//                   (a - offset) / n
//   decoded:        w' = level(code) * (dynamic8(code of a) * n + offset)
// Quotients are products with the reciprocal of at least 1e-38, but quotients in the last block of a list when it is
// short. The mean is that of exact sums; the tool's is off by a place or two of f32, as the processor's vectors have it.
// Source: bitsandbytes 0.50 quantize_4bit, quantize_blockwise ("default" kernels; its CPU library misses the nearest
// value of dynamic8 by one code now and then).

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "hf/checkpoint.h"

namespace halftone {

struct Nf4Double {
  static constexpr std::int64_t kBlock = 64, kScaleBlock = 256;

  std::vector<std::uint8_t> codes;   // [weights], 0..15
  std::vector<std::uint8_t> absmax;  // [blocks], dynamic8
  std::vector<float> nested_absmax;  // [ceil(blocks / 256)]
  float offset = 0;
};

// weights: one or more, finite (the caller checks). The result does not depend on the number of threads.
Nf4Double quantize_nf4_double(std::span<const float> weights, ThreadPool& pool);

// The scales of the blocks, decoded: [blocks].
std::vector<float> decode_scales(const Nf4Double& q);

// weight: [rows, cols] f32, bf16 or f16, finite (checked; `name` is in the error), cols in whole blocks. The weight with
// its scales decoded, and what they were decoded from.
LinearParts round_to_nf4(const Tensor& weight, std::string_view name, ThreadPool& pool);

}  // namespace halftone

#pragma once
// NF4 with double quantization as bitsandbytes has it (Dettmers et al., "QLoRA", 2023). The weights of a matrix are one
// list, row after row:
//   blocks of 64:   a = largest |w|,  code = NF4 level nearest to w / a
//   the a's:        offset = their mean;  in blocks of 256: n = largest |a - offset|, code = dynamic8 nearest to
//                   (a - offset) / n
//   decoded:        w' = level(code) * (dynamic8(code of a) * n + offset)
// Quotients are products with the reciprocal of at least 1e-38, but quotients in the last block of a list when it is
// short. Source: bitsandbytes 0.50 quantize_4bit, quantize_blockwise ("default" kernels; its CPU library misses the nearest
// value of dynamic8 by one code now and then).

#include <cstdint>
#include <span>
#include <vector>

namespace halftone {

struct Nf4Double {
  static constexpr std::int64_t kBlock = 64, kScaleBlock = 256;

  std::vector<std::uint8_t> codes;   // [weights], 0..15
  std::vector<std::uint8_t> absmax;  // [blocks], dynamic8
  std::vector<float> nested_absmax;  // [ceil(blocks / 256)]
  float offset = 0;
};

// weights: one or more, finite (the caller checks).
Nf4Double quantize_nf4_double(std::span<const float> weights);

// The scales of the blocks, decoded: [blocks].
std::vector<float> decode_scales(const Nf4Double& q);
// The weights, decoded.
std::vector<float> dequantize(const Nf4Double& q);

}  // namespace halftone

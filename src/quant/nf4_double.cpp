#include "quant/nf4_double.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "formats/dynamic8.h"
#include "formats/nf4.h"

namespace halftone {
namespace {

constexpr float kLeast = 1e-38f;

struct Blocks {
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax;
};

template <typename Encode>
Blocks quantize_blocks(std::span<const float> x, std::int64_t block, Encode encode) {
  const std::int64_t n = std::ssize(x);
  Blocks q;
  q.codes.reserve(x.size());
  for (std::int64_t first = 0; first < n; first += block) {
    const std::span<const float> part =
        x.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(std::min(block, n - first)));
    float most = 0;
    for (const float value : part) most = std::max(most, std::abs(value));
    const bool is_short = std::ssize(part) < block;
    if (is_short) most = std::max(most, kLeast);
    q.absmax.push_back(most);
    const float reciprocal = 1.0f / std::max(most, kLeast);
    for (const float value : part) {
      q.codes.push_back(encode(std::clamp(is_short ? value / most : value * reciprocal, -1.0f, 1.0f)));
    }
  }
  return q;
}

}  // namespace

Nf4Double quantize_nf4_double(std::span<const float> weights) {
  require(!weights.empty(), "nf4", "expected one weight or more");
  Blocks blocks = quantize_blocks(weights, Nf4Double::kBlock, nf4::encode_exact);
  double sum = 0;
  for (const float a : blocks.absmax) sum += a;
  Nf4Double q;
  q.codes = std::move(blocks.codes);
  q.offset = static_cast<float>(sum / static_cast<double>(blocks.absmax.size()));
  for (float& a : blocks.absmax) a -= q.offset;
  Blocks nested = quantize_blocks(blocks.absmax, Nf4Double::kScaleBlock, dynamic8::encode);
  q.absmax = std::move(nested.codes);
  q.nested_absmax = std::move(nested.absmax);
  return q;
}

std::vector<float> decode_scales(const Nf4Double& q) {
  std::vector<float> scales(q.absmax.size());
  for (std::size_t b = 0; b < scales.size(); ++b) {
    scales[b] = dynamic8::decode(q.absmax[b]) * q.nested_absmax[b / Nf4Double::kScaleBlock];
    scales[b] += q.offset;
  }
  return scales;
}

std::vector<float> dequantize(const Nf4Double& q) {
  const std::vector<float> scales = decode_scales(q);
  std::vector<float> weights(q.codes.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = nf4::decode_exact(q.codes[i]) * scales[i / Nf4Double::kBlock];
  }
  return weights;
}

}  // namespace halftone

#include "quant/nf4_double.h"

#include <algorithm>
#include <cmath>

#include "formats/dynamic8.h"
#include "formats/nf4.h"
#include "ops/round_values.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

constexpr float kLeast = 1e-38f;
constexpr std::int64_t kBlocksPerTask = 1024;

struct Blocks {
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax;
};

// Codes of one block of n values, its largest magnitude.
template <typename Encode>
float quantize_block(const float* x, std::int64_t n, bool is_short, Encode encode, std::uint8_t* codes) {
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(x[i]));
  if (is_short) most = std::max(most, kLeast);
  const float reciprocal = 1.0f / std::max(most, kLeast);
  for (std::int64_t i = 0; i < n; ++i) {
    codes[i] = encode(std::clamp(is_short ? x[i] / most : x[i] * reciprocal, -1.0f, 1.0f));
  }
  return most;
}

template <typename Encode>
Blocks quantize_blocks(std::span<const float> x, std::int64_t block, Encode encode, ThreadPool& pool) {
  const std::int64_t n = std::ssize(x), blocks = (n + block - 1) / block;
  Blocks q;
  q.codes.resize(x.size());
  q.absmax.resize(static_cast<std::size_t>(blocks));
  pool.parallel_for((blocks + kBlocksPerTask - 1) / kBlocksPerTask, [&](std::int64_t task) {
    const std::int64_t end = std::min(blocks, (task + 1) * kBlocksPerTask);
    for (std::int64_t b = task * kBlocksPerTask; b < end; ++b) {
      const std::int64_t first = b * block, length = std::min(block, n - first);
      q.absmax[static_cast<std::size_t>(b)] =
          quantize_block(x.data() + first, length, length < block, encode, q.codes.data() + first);
    }
  });
  return q;
}

Tensor bytes_tensor(const std::vector<std::uint8_t>& values) {
  Tensor tensor(DType::kU8, {std::ssize(values)});
  std::copy(values.begin(), values.end(), tensor.bits<std::uint8_t>());
  return tensor;
}

}  // namespace

Nf4Double quantize_nf4_double(std::span<const float> weights, ThreadPool& pool) {
  require(!weights.empty(), "nf4", "expected one weight or more");
  Blocks blocks = quantize_blocks(weights, Nf4Double::kBlock, nf4::encode, pool);
  double sum = 0;
  for (const float a : blocks.absmax) sum += a;
  Nf4Double q;
  q.codes = std::move(blocks.codes);
  q.offset = static_cast<float>(sum / static_cast<double>(blocks.absmax.size()));
  for (float& a : blocks.absmax) a -= q.offset;
  Blocks nested = quantize_blocks(blocks.absmax, Nf4Double::kScaleBlock, dynamic8::encode, pool);
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

LinearParts round_to_nf4(const Tensor& weight, std::string_view name, ThreadPool& pool) {
  require(weight.rank() == 2 && weight.dim(1) % Nf4Double::kBlock == 0, name,
          "expected a matrix with inputs in whole blocks of {}, got shape {}", Nf4Double::kBlock,
          to_string(weight.shape()));
  largest_magnitude(weight, name, pool);  // throws for what is not finite
  const Tensor values = to_f32(weight);
  const Nf4Double found = quantize_nf4_double({values.data<float>(), static_cast<std::size_t>(values.numel())}, pool);
  LinearParts parts;
  QTensor& q = parts.weight;
  q.spec = {Element::kNF4, Granularity::kGroup, Nf4Double::kBlock};
  q.shape = weight.shape();
  q.payload = Tensor(DType::kU8, payload_shape(Element::kNF4, q.shape));
  pack_nibbles(found.codes.data(), values.numel(), q.payload.bits<std::uint8_t>());
  q.scales = Tensor::from(decode_scales(found), scales_shape(q.spec, q.shape));
  parts.nested = {bytes_tensor(found.absmax), Tensor::from(found.nested_absmax, {std::ssize(found.nested_absmax)}),
                  found.offset};
  return parts;
}

}  // namespace halftone

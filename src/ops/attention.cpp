#include "ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "formats/bf16.h"
#include "ops/attention_kernels.h"
#include "ops/backend.h"
#include "ops/exp.h"

namespace halftone {
namespace {

void check(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, const Tensor& out) {
  require(q.rank() == 3 && q.dtype() == DType::kF32 && out.dtype() == DType::kF32 && out.shape() == q.shape(),
          "attention", "expected F32 [tokens, heads, d] twice, got {} {} and {} {}", dtype_name(q.dtype()),
          to_string(q.shape()), dtype_name(out.dtype()), to_string(out.shape()));
  require(!kv.k.empty() && kv.k.size() == kv.v.size() && q.dim(1) % static_cast<std::int64_t>(kv.k.size()) == 0,
          "attention", "{} heads do not share {} keys and {} values evenly", q.dim(1), kv.k.size(), kv.v.size());
  require(static_cast<std::int64_t>(ranges.size()) == q.dim(0), "attention", "expected {} ranges, got {}", q.dim(0),
          ranges.size());
  for (const AttentionRange& range : ranges) {
    require(0 <= range.begin && range.begin < range.end, "attention",
            "expected a range of one key or more, got [{}, {})", range.begin, range.end);
  }
}

// p[s] = the probability of the s-th visible key; p holds the scores on entry.
void softmax(float* p, std::int64_t count, Numerics numerics) {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t s = 0; s < count; ++s) largest = std::max(largest, p[s]);
  std::array<float, kSumParts> parts{};
  for (std::int64_t s = 0; s < count; ++s) {
    p[s] = exponential::exp(p[s] - largest);
    parts[static_cast<std::size_t>(s % kSumParts)] += p[s];
  }
  const float sum = sum_parts(parts.data());
  for (std::int64_t s = 0; s < count; ++s) {
    p[s] /= sum;
    if (numerics == Numerics::kBF16) p[s] = bf16::round(p[s]);
  }
}

}  // namespace

void attention(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
               Numerics numerics, Tensor& out, Stream& stream) {
  check(q, kv, ranges, out);
  require_cpu(stream, "attention");
  attention_cpu(q, kv, ranges, scale, numerics, out, stream);
}

void attention_reference(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
                         Numerics numerics, Tensor& out) {
  check(q, kv, ranges, out);
  const std::int64_t heads = q.dim(1), d = q.dim(2), share = heads / static_cast<std::int64_t>(kv.k.size());
  std::vector<float> p;
  for (std::int64_t i = 0; i < q.dim(0) * heads; ++i) {
    const AttentionRange range = ranges[static_cast<std::size_t>(i / heads)];
    const auto kv_head = static_cast<std::size_t>(i % heads / share);
    const float* query = q.data<float>() + i * d;
    p.assign(static_cast<std::size_t>(range.end - range.begin), 0.0f);
    for (std::int64_t s = range.begin; s < range.end; ++s) {
      float dot = 0;
      for (std::int64_t j = 0; j < d; ++j) dot = std::fma(query[j], kv.k[kv_head][s * d + j], dot);
      p[static_cast<std::size_t>(s - range.begin)] = dot * scale;
    }
    softmax(p.data(), range.end - range.begin, numerics);
    for (std::int64_t j = 0; j < d; ++j) {
      float sum = 0;
      for (std::int64_t s = range.begin; s < range.end; ++s) {
        sum = std::fma(p[static_cast<std::size_t>(s - range.begin)], kv.v[kv_head][s * d + j], sum);
      }
      out.data<float>()[i * d + j] = numerics == Numerics::kBF16 ? bf16::round(sum) : sum;
    }
  }
}

}  // namespace halftone

#include "ops/attention_kernels.h"
#include "ops/backend.h"

namespace halftone {

void attention_cpu(const Tensor& q, const AttentionKv& kv, std::span<const AttentionRange> ranges, float scale,
                   Numerics numerics, Tensor& out, Stream& stream) {
  for_ranges(stream, q.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    Tensor part = out.rows(begin, end);
    attention_reference(q.rows(begin, end), kv,
                        ranges.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), scale,
                        numerics, part);
  });
}

}  // namespace halftone

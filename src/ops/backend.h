#pragma once
// What the ops ask of a device. Each function is one op's half, called after the checks of ops/NAME.cpp.

#include <algorithm>

#include "ops/attention.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace halftone {

// Throws Error("[where] ...") unless the stream is one that this build can run on.
inline void require_cpu(const Stream& stream, std::string_view where) {
  require(stream.device == Device::kCpu, where, "this build runs on the CPU only");
  require(stream.pool != nullptr, where, "expected a stream with a thread pool");
}

// Calls body(begin, end) over [0, count) in pieces of `grain` or more, in parallel where there is more than one piece.
template <typename Body>
void for_ranges(Stream& stream, std::int64_t count, std::int64_t grain, const Body& body) {
  const std::int64_t pieces = std::min((count + grain - 1) / grain, std::int64_t{4} * stream.pool->size());
  if (pieces <= 1 || stream.pool->size() == 1) {
    if (count > 0) body(std::int64_t{0}, count);
    return;
  }
  stream.pool->parallel_for(pieces, [&](std::int64_t i) { body(count * i / pieces, count * (i + 1) / pieces); });
}

}  // namespace halftone

#pragma once
// The time of the attention of a decoder's newest tokens, without the rest of a step.

#include <functional>
#include <string>

namespace halftone::testing {

// Prints one JSON line for each of step_models(), batch of sequences of 1,104 keys and kind of cache whose name,
// "newest/MODEL/CACHE", `wanted` takes. "us": of a layer. The layers' caches are far larger than the second cache together.
// "of_read": their bytes over the time, as a part of what memory reads. "overlap": programmatic dependent launch.
void bench_newest_attention(double read_bytes_per_s, const std::function<bool(const std::string&)>& wanted);

}  // namespace halftone::testing

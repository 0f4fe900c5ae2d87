#pragma once
// The time of the attention of many queries, and of the vision tower with its ops.

#include <functional>
#include <string>

namespace halftone::testing {

// Prints one JSON line a measurement whose name `wanted` takes: "attention/...", "vision/...". "tflops" counts four operations
// for each query, seen key and dimension; the tower's count its products, too. Times are medians on the device.
void bench_vision(const std::function<bool(const std::string&)>& wanted);

}  // namespace halftone::testing

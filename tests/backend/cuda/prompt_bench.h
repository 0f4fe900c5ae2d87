#pragma once
// The products of a prompt of 1,089 tokens at the shapes of Qwen2-VL-2B, by format.

#include <functional>
#include <string>

namespace halftone::testing {

// One JSON line for each format and shape whose name "prompt/FORMAT/SHAPE" is wanted: microseconds of the product with all that
// comes before and after it, and of what prepares its input.
void bench_prompts(const std::function<bool(const std::string&)>& wanted);

}  // namespace halftone::testing

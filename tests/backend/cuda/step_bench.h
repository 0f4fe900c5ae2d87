#pragma once
// The time of a whole decoder step: every op of every layer in one graph, on random weights.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/qtensor.h"

namespace halftone::testing {

struct StepModel {
  std::string_view name;
  std::int64_t hidden, mlp, layers, heads, kv_heads, vocabulary;
};
// The decoders of Qwen2-VL 2B and 7B, heads of 128 dimensions.
std::vector<StepModel> step_models();

// Prints one JSON line for each weight format (the head in bf16) and batch whose name, "step/MODEL/FORMAT/BATCH", `wanted`
// takes. Each sequence holds 1,104 keys, the middle of
// 1,041 prompt tokens and 128 answered ones. "of_read": the weights' bytes over the time, as a part of what memory reads.
void bench_step(const StepModel& model, double read_bytes_per_s, const std::function<bool(const std::string&)>& wanted);

}  // namespace halftone::testing

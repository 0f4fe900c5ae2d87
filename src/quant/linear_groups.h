#pragma once
// Which linear layers read the same input, and what writes it: where statistics are shared, scales must agree because
// inference fuses, and smoothing can be folded.

#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/tensor_table.h"
#include "quant/smoothing.h"

namespace halftone {

struct LinearGroup {
  std::vector<std::string> readers;  // canonical names, in the order of the model's table
  std::string writer;                // what can be divided to smooth the input; "" when nothing can
  ChannelMap channels;               // of the input, in terms of the writer's output; empty without a writer
  std::int64_t layer = -1;           // of the decoder, -1 outside
};

// Every linear layer is in one group: those of the decoder as the Llama family's names say (q/k/v behind a norm, o_proj
// behind v_proj, gate/up behind a norm, down_proj behind up_proj), any other one in a group of its own.
std::vector<LinearGroup> linear_groups(const ModelConfig& config, std::span<const ModuleInfo> modules);

}  // namespace halftone

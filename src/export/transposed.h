#pragma once
// What AutoAWQ's and GPTQ's writers share: tensors transposed to [inputs or groups, outputs], scales F16, and the names
// of modules that stay as they are.

#include <string>
#include <string_view>
#include <vector>

#include "export/export.h"
#include "hf/transposed_packing.h"

namespace halftone {

// Throws Error unless outputs fill whole words and scales are by group or by output.
void check_transposed(const std::string& name, const QTensor& q, std::string_view where);
// Zero points as unsigned codes, U8 [groups, outputs]; the middle of the codes for symmetric weights.
Tensor transposed_zeros(const QTensor& q);
// F16 [groups, outputs]. Throws Error for a scale that F16 does not hold exactly.
Tensor transposed_scales(const QTensor& q, const std::string& name);
// group_size as these configurations state it: -1 for one group an output.
std::int64_t stated_group(const QuantSpec& spec);

// Parts of names that mark the linear layers that stay as they are under the names of all tools, and no others:
// "visual" for a whole vision tower, "lm_head", "layers.0.mlp.up_proj".
std::vector<std::string> unconverted_names(const ExportPlan& plan);
// "model.layers.0.mlp.up_proj" -> "layers.0.mlp.up_proj"
std::string name_in_layers(const std::string& module);
// An expression that holds for every name with this part: ".*layers\.0\.mlp\.up_proj.*".
std::string expression_with(const std::string& part);

}  // namespace halftone

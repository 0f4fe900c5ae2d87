#pragma once
// What a folder's files need to know of a plan.

#include <string>
#include <vector>

#include "export/layouts.h"

namespace halftone {

// Throw Error naming the module or the tensor, see export_checkpoint().
void check_plan(const ExportPlan& plan);
void check_module(const ExportPlan& plan, const std::string& name, const ExportModule& module);
void check_tensors(const ExportPlan& plan);
void check_kv(const ExportPlan& plan);

// What one module turns into, its bias if it has a new one.
NamedTensors module_tensors(const ExportPlan& plan, const std::string& name, const ExportModule& module);
// Scales of the cache as the layout stores them; none when it has no keys for the format.
NamedTensors kv_tensors(const ExportPlan& plan);

// Writes config.json and, where the layout has one, hf_quant_config.json.
void write_configuration(const ExportPlan& plan, const std::filesystem::path& folder);

}  // namespace halftone

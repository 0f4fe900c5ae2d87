#include "quant/working_weights.h"

namespace halftone {

WorkingWeights::WorkingWeights(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules)
    : checkpoint_(checkpoint) {
  for (const ModuleInfo& module : modules) table_[module.module] = &module;
}

const ModuleInfo& WorkingWeights::info(const std::string& module) const {
  const auto it = table_.find(module);
  require(it != table_.end(), "quantize", "the model has no module '{}'", module);
  return *it->second;
}

WorkingModule& WorkingWeights::get(const std::string& module) {
  if (const auto it = loaded_.find(module); it != loaded_.end()) return it->second;
  WorkingModule work;
  work.info = &info(module);
  const Tensor weight = checkpoint_.tensor(work.info->stored + ".weight");
  work.dtype = weight.dtype();
  work.weight = to_f32(weight).clone();
  if (const std::string bias = work.info->stored + ".bias"; checkpoint_.contains(bias)) {
    const Tensor stored = checkpoint_.tensor(bias);
    work.bias_dtype = stored.dtype();
    work.bias = to_f32(stored).clone();
  }
  return loaded_.emplace(module, std::move(work)).first->second;
}

std::int64_t WorkingWeights::stored_bytes(const std::string& module) const {
  return checkpoint_.tensors().at(info(module).stored + ".weight").nbytes;
}

void WorkingWeights::flush(const std::map<std::string, LinearParts>& quantized,
                           std::map<std::string, Tensor>& tensors) {
  for (const auto& [module, work] : loaded_) {
    const std::string& stored = work.info->stored;
    if (quantized.contains(stored)) continue;
    if (work.weight_changed) tensors[stored + ".weight"] = from_f32(work.weight, work.dtype);
    if (work.bias_changed) tensors[stored + ".bias"] = from_f32(work.bias, work.bias_dtype);
  }
  loaded_.clear();
}

}  // namespace halftone

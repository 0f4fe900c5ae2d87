#pragma once
// The weights of a few modules in f32 while they are smoothed, and what of them has changed.

#include <map>
#include <span>
#include <string>

#include "hf/checkpoint.h"
#include "model/tensor_table.h"

namespace halftone {

struct WorkingModule {
  const ModuleInfo* info = nullptr;
  DType dtype = DType::kBF16;  // of the stored weight
  DType bias_dtype = DType::kBF16;
  Tensor weight;  // f32, as the module's shape
  Tensor bias;    // f32 [outputs] or undefined
  bool weight_changed = false, bias_changed = false;
};

class WorkingWeights {
 public:
  WorkingWeights(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules);

  // Loads the module at first use. Throws Error when there is none.
  WorkingModule& get(const std::string& module);
  const ModuleInfo& info(const std::string& module) const;
  // Of the weight in the checkpoint.
  std::int64_t stored_bytes(const std::string& module) const;
  // Drops what was loaded, after handing every changed tensor of modules outside `quantized` to `tensors`, in its
  // stored type.
  void flush(const std::map<std::string, LinearParts>& quantized, std::map<std::string, Tensor>& tensors);

 private:
  const Checkpoint& checkpoint_;
  std::map<std::string, const ModuleInfo*> table_;
  std::map<std::string, WorkingModule> loaded_;
};

}  // namespace halftone

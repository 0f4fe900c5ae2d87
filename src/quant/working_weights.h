#pragma once
// The weights of a few modules in f32 while they are smoothed, and what of them has changed.

#include <functional>
#include <map>
#include <span>
#include <string>

#include "base/thread_pool.h"
#include "hf/checkpoint.h"
#include "model/tensor_table.h"

namespace halftone {

struct WorkingModule {
  const ModuleInfo* info = nullptr;
  DType dtype = DType::kBF16;  // of the stored weight
  DType bias_dtype = DType::kBF16;
  Tensor weight;  // f32 (view(): as stored), as the module's shape; part of `storage`, which may be larger
  Tensor storage;
  Tensor bias;  // f32 [outputs] or undefined
  bool weight_changed = false, bias_changed = false;
};

class WorkingWeights {
 public:
  WorkingWeights(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules, ThreadPool& pool);

  // Loads the module at first use. Throws Error when there is none.
  WorkingModule& get(const std::string& module);
  // The module as it is now: what get() loaded, or else the weight as the checkpoint stores it, in its dtype, a view into
  // the map, without a bias. For those who read rows once: widening all of them first costs more than rounding them.
  WorkingModule view(const std::string& module) const;
  const ModuleInfo& info(const std::string& module) const;
  // Of the weight in the checkpoint; 0 when they are another module's.
  std::int64_t stored_bytes(const std::string& module) const;
  // The largest magnitude of the module's weight. Throws Error for NaN and infinity.
  float largest_magnitude(const std::string& module) const;
  // Drops one module without a word.
  void release(const std::string& module);
  // Drops what is loaded, after handing the changed tensors to `changed` under their names, in their stored type.
  void flush(const std::function<void(const std::string&, const Tensor&)>& changed);

 private:
  Tensor f32_storage(std::int64_t count);

  const Checkpoint& checkpoint_;
  ThreadPool& pool_;
  std::map<std::string, const ModuleInfo*> table_;
  std::map<std::string, WorkingModule> loaded_;
  Tensor spare_;  // the storage of a module that was dropped: memory that has been touched once is quick
};

}  // namespace halftone

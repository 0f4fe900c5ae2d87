#include "quant/working_weights.h"

#include <algorithm>
#include <utility>

#include "ops/round_values.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

constexpr std::int64_t kChunk = 1 << 16;  // elements that one task converts

// Any tensor of weights into out, [numel] f32.
void convert(const Tensor& stored, ThreadPool& pool, float* out) {
  pool.parallel_for((stored.numel() + kChunk - 1) / kChunk, [&](std::int64_t i) {
    const std::int64_t begin = i * kChunk;
    widen(stored, begin, std::min(kChunk, stored.numel() - begin), out + begin);
  });
}

}  // namespace

WorkingWeights::WorkingWeights(const Checkpoint& checkpoint, std::span<const ModuleInfo> modules, ThreadPool& pool)
    : checkpoint_(checkpoint), pool_(pool) {
  for (const ModuleInfo& module : modules) table_[module.module] = &module;
}

const ModuleInfo& WorkingWeights::info(const std::string& module) const {
  const auto it = table_.find(module);
  require(it != table_.end(), "quantize", "the model has no module '{}'", module);
  return *it->second;
}

Tensor WorkingWeights::f32_storage(std::int64_t count) {
  if (spare_.defined() && spare_.numel() >= count) return std::exchange(spare_, Tensor());
  return Tensor(DType::kF32, {count});
}

WorkingModule& WorkingWeights::get(const std::string& module) {
  if (const auto it = loaded_.find(module); it != loaded_.end()) return it->second;
  WorkingModule work;
  work.info = &info(module);
  const Tensor weight = checkpoint_.tensor(work.info->stored + ".weight");
  work.dtype = weight.dtype();
  work.storage = f32_storage(weight.numel());
  work.weight = work.storage.rows(0, weight.numel()).reshape(weight.shape());
  convert(weight, pool_, work.weight.data<float>());
  if (const std::string bias = work.info->stored + ".bias"; checkpoint_.contains(bias)) {
    const Tensor stored = checkpoint_.tensor(bias);
    work.bias_dtype = stored.dtype();
    work.bias = to_f32(stored).clone();
  }
  return loaded_.emplace(module, std::move(work)).first->second;
}

WorkingModule WorkingWeights::view(const std::string& module) const {
  if (const auto it = loaded_.find(module); it != loaded_.end()) return it->second;
  WorkingModule work;
  work.info = &info(module);
  work.weight = checkpoint_.tensor(work.info->stored + ".weight");
  work.dtype = work.weight.dtype();
  return work;
}

float WorkingWeights::largest_magnitude(const std::string& module) const {
  return halftone::largest_magnitude(view(module).weight, module, pool_);
}

void WorkingWeights::release(const std::string& module) {
  const auto it = loaded_.find(module);
  if (it == loaded_.end()) return;
  Tensor storage = std::move(it->second.storage);
  loaded_.erase(it);
  if (!spare_.defined() || spare_.numel() < storage.numel()) spare_ = std::move(storage);
}

std::int64_t WorkingWeights::stored_bytes(const std::string& module) const {
  const TensorInfo& tensor = checkpoint_.tensors().at(info(module).stored + ".weight");
  return tensor.shared ? 0 : tensor.nbytes;
}

void WorkingWeights::flush(const std::function<void(const std::string&, const Tensor&)>& changed) {
  for (const auto& [module, work] : loaded_) {
    const std::string& stored = work.info->stored;
    if (work.weight_changed) changed(stored + ".weight", from_f32(work.weight, work.dtype));
    if (work.bias_changed) changed(stored + ".bias", from_f32(work.bias, work.bias_dtype));
  }
  while (!loaded_.empty()) release(loaded_.begin()->first);
}

}  // namespace halftone

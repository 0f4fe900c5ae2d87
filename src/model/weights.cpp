#include "model/weights.h"

namespace halftone {

Weights::Weights(Checkpoint checkpoint, std::vector<ModuleInfo> modules, Numerics numerics)
    : checkpoint_(std::move(checkpoint)), numerics_(numerics), modules_(std::move(modules)) {
  for (std::size_t i = 0; i < modules_.size(); ++i) index_.emplace(modules_[i].module, i);
}

Tensor Weights::cast(const Tensor& weight) const {
  if (numerics_ != Numerics::kBF16 || weight.dtype() == DType::kBF16) return weight;
  return from_f32(to_f32(weight), DType::kBF16);
}

const ModuleInfo& Weights::info(std::string_view module) const {
  const auto it = index_.find(module);
  require(it != index_.end(), checkpoint_.folder().string(), "expected a module of the model, got '{}'", module);
  return modules_[it->second];
}

namespace {

// Of the first tensor of a layer: which ones there are is the layout's affair.
std::string file_of_layer(const Checkpoint& checkpoint, const std::string& stored) {
  const auto first = checkpoint.tensors().lower_bound(stored + ".");
  return first == checkpoint.tensors().end() ? checkpoint.folder().string() : first->second.file.string();
}

// `file` is empty for a layer that was put in another's place.
void check_parts(const ModuleInfo& info, const LinearParts& parts, const std::string& file) {
  const std::string where = file.empty() ? info.module : file + ": " + info.module;
  check_qtensor(parts.weight, where);
  require(parts.weight.shape == info.shape, where, "expected a weight of shape {}, found {}", to_string(info.shape),
          to_string(parts.weight.shape));
  require(!parts.bias.defined() || parts.bias.shape() == Shape{info.shape[0]}, where,
          "expected a bias of shape [{}], found {}", info.shape[0],
          parts.bias.defined() ? to_string(parts.bias.shape()) : "none");
}

}  // namespace

LinearParts Weights::linear(std::string_view module) const {
  const ModuleInfo& row = info(module);
  require(row.linear, module, "expected a linear layer");
  const auto replaced = replaced_linears_.find(module);
  LinearParts parts;
  std::string file;
  if (replaced != replaced_linears_.end()) {
    parts = replaced->second;
  } else if (row.tied) {
    // an embedding table: configurations that quantize every Linear do not mean it, and do not name it either
    parts.weight = wrap_unquantized(checkpoint_.tensor(row.stored + ".weight"));
  } else {
    parts = load_linear(checkpoint_, row.stored);
    file = file_of_layer(checkpoint_, row.stored);
  }
  if (parts.bias.defined()) parts.bias = to_f32(cast(parts.bias));
  check_parts(row, parts, file);
  if (parts.weight.spec.granularity == Granularity::kNone) parts.weight = wrap_unquantized(cast(parts.weight.payload));
  return parts;
}

Tensor Weights::stored_weight(std::string_view module) const {
  const ModuleInfo& row = info(module);
  const auto replaced = replaced_weights_.find(module);
  return cast(replaced != replaced_weights_.end() ? replaced->second : checkpoint_.tensor(row.stored + ".weight"));
}

Tensor Weights::weight(std::string_view module) const { return to_f32(stored_weight(module)); }

Tensor Weights::bias(std::string_view module) const {
  const ModuleInfo& row = info(module);
  if (row.linear) return linear(module).bias;
  if (!row.has_bias) return {};
  return to_f32(cast(checkpoint_.tensor(row.stored + ".bias")));
}

void Weights::replace(std::string_view module, LinearParts parts) {
  const ModuleInfo& row = info(module);
  require(row.linear, module, "expected a linear layer to replace");
  check_parts(row, parts, "");
  replaced_linears_.insert_or_assign(std::string(module), std::move(parts));
}

void Weights::replace(std::string_view module, const Tensor& weight) {
  const ModuleInfo& row = info(module);
  require(!row.linear, module, "expected a module that is no linear layer to replace");
  require(weight.shape() == row.shape, module, "expected a weight of shape {}, got {}", to_string(row.shape),
          to_string(weight.shape()));
  replaced_weights_.insert_or_assign(std::string(module), weight);
}

}  // namespace halftone

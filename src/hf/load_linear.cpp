#include "hf/checkpoint.h"

namespace halftone {
namespace {

Tensor load_bias(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows) {
  const std::string name = module + ".bias";
  if (!checkpoint.contains(name)) return {};
  const Tensor bias = checkpoint.tensor(name);
  require(bias.shape() == Shape{rows}, checkpoint.folder().string(), "tensor '{}': expected shape [{}], found {}", name,
          rows, to_string(bias.shape()));
  return bias;
}

}  // namespace

LinearParts load_linear(const Checkpoint& checkpoint, std::string_view module) {
  LinearParts parts;
  const std::string name(module);
  const Tensor weight = checkpoint.tensor(name + ".weight");
  require(weight.rank() == 2, checkpoint.folder().string(), "tensor '{}.weight': expected [outputs, inputs], found {}",
          name, to_string(weight.shape()));
  parts.weight = wrap_unquantized(weight);
  parts.bias = load_bias(checkpoint, name, parts.weight.rows());
  return parts;
}

}  // namespace halftone

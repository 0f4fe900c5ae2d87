#pragma once
// The layers that every architecture is made of. Each knows its module's name and loads itself from Weights.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/linear_product.h"
#include "model/run_context.h"
#include "model/weights.h"

namespace halftone {

// One product, or several that share their input (q/k/v, gate/up) and then run as one when their formats agree.
class Linear {
 public:
  Linear() = default;
  Linear(std::vector<std::string> modules, const Weights& weights, Stream& stream);

  // Packs again what `weights` holds now.
  void load(const Weights& weights, Stream& stream);
  // Gives the memory back; load() must come before the next forward().
  void unload() { products_.clear(); }
  bool has(std::string_view module) const;
  const std::vector<std::string>& modules() const { return modules_; }
  std::int64_t outputs() const { return outputs_; }
  // x: [tokens, inputs], y: [tokens, outputs of all modules, one after another] f32.
  void forward(const Tensor& x, Numerics numerics, Tensor& y, RunContext run) const;
  // Bytes that the kernels' layout takes.
  std::int64_t packed_bytes() const;
  bool native() const;

 private:
  std::vector<std::string> modules_;
  std::vector<LinearProduct> products_;  // one (fused) or one for each module
  std::int64_t outputs_ = 0;
};

// Weight and perhaps bias of a normalization, in f32.
class Norm {
 public:
  Norm() = default;
  Norm(std::string module, const Weights& weights);

  void load(const Weights& weights);
  const std::string& module() const { return module_; }
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  std::string module_;
  Tensor weight_, bias_;
};

// What a part of a model (vision tower, projector, decoder) consists of.
struct LayerVisitor {
  std::function<void(Linear&)> linear;
  std::function<void(Norm&)> norm;
};

}  // namespace halftone

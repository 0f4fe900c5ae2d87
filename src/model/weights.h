#pragma once
// Where layers take their weights from: the checkpoint, or what was put in its place.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hf/checkpoint.h"
#include "model/tensor_table.h"
#include "ops/norm.h"

namespace halftone {

// In Numerics::kBF16 unquantized weights of other types are rounded to bf16, as a model loaded in bf16 has them.
class Weights {
 public:
  Weights(Checkpoint checkpoint, std::vector<ModuleInfo> modules, Numerics numerics);

  const std::vector<ModuleInfo>& modules() const { return modules_; }
  // Throws Error when there is no such module.
  const ModuleInfo& info(std::string_view module) const;
  // Weight, bias (f32 or undefined) and input quantization, the shapes checked.
  LinearParts linear(std::string_view module) const;
  // The weight of any other module: in its stored type (kBF16: bf16), and as f32.
  Tensor stored_weight(std::string_view module) const;
  Tensor weight(std::string_view module) const;
  // The bias as f32, undefined when the module has none.
  Tensor bias(std::string_view module) const;

  // Gives back the memory of a module's file pages, once its layer holds a copy.
  void drop_pages(std::string_view module) const { checkpoint_.drop_pages(info(module).stored + "."); }

  // Whether linear layers wait to be loaded, see Model::load_layers().
  bool deferred() const { return deferred_; }
  void defer(bool deferred) { deferred_ = deferred; }

  void replace(std::string_view module, LinearParts parts);
  void replace(std::string_view module, const Tensor& weight);

 private:
  Tensor cast(const Tensor& weight) const;

  Checkpoint checkpoint_;
  Numerics numerics_;
  bool deferred_ = false;
  std::vector<ModuleInfo> modules_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, LinearParts, std::less<>> replaced_linears_;
  std::map<std::string, Tensor, std::less<>> replaced_weights_;
};

}  // namespace halftone

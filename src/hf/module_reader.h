#pragma once
// The tensors of one quantized module, with errors that name the tensor, what demands it, and what was found.

#include <initializer_list>
#include <string>
#include <string_view>

#include "hf/checkpoint.h"

namespace halftone {

// Keeps a reference to the checkpoint.
class ModuleReader {
 public:
  ModuleReader(const Checkpoint& checkpoint, std::string_view module) : checkpoint_(checkpoint), module_(module) {}

  // The file of one of the module's tensors.
  std::string source(std::string_view part = "weight") const { return checkpoint_.file_of(name(part)); }
  // "weight" -> "model.layers.0.mlp.up_proj.weight"
  std::string name(std::string_view part) const { return module_ + "." + std::string(part); }
  const std::string& module() const { return module_; }
  bool has(std::string_view part) const { return checkpoint_.contains(name(part)); }

  // The tensor, of one of the dtypes; `rule` says what of the configuration demands it. Throws Error.
  Tensor get(std::string_view part, std::initializer_list<DType> dtypes, std::string_view rule) const;
  Tensor get(std::string_view part, std::initializer_list<DType> dtypes, const QuantSpec& spec) const {
    return get(part, dtypes, to_string(spec));
  }
  // The tensor as it is. Throws Error when it is missing.
  Tensor tensor(std::string_view part) const { return checkpoint_.tensor(name(part)); }
  // Throws Error unless the tensor has the shape that `rule` demands.
  void expect_shape(std::string_view part, const Tensor& tensor, const Shape& expected, std::string_view rule) const;
  void expect_shape(std::string_view part, const Tensor& tensor, const Shape& expected, const QuantSpec& spec) const {
    expect_shape(part, tensor, expected, to_string(spec));
  }
  // Throws Error unless every scale is finite, and 0 or more unless `any_sign`.
  void check_scales(std::string_view part, const Tensor& scales, bool any_sign = false) const;
  // A floating-point tensor of one element that is finite and above 0. Throws Error.
  float read_scalar(std::string_view part, std::string_view rule) const;

 private:
  const Checkpoint& checkpoint_;
  std::string module_;
};

}  // namespace halftone

#pragma once
// Hooks into a running model: what calibration, diagnosis and parity tests see of it. All tensors are f32 and valid
// during the call only.

#include <cstdint>
#include <string_view>

#include "tensor/tensor.h"

namespace halftone {

class ModelObserver {
 public:
  virtual ~ModelObserver() = default;
  // Before each linear layer: its input x [tokens, inputs]. Layers that share their input (q/k/v, gate/up) are each
  // told.
  virtual void on_linear_input(std::string_view /*module*/, const Tensor& /*x*/) {}
  // Of each decoder layer, before the cache takes them. k (after RoPE), v: [tokens, kv_heads, head_dim].
  // cos, sin: [tokens, head_dim / 2], the rotation of k.
  virtual void on_key_value(std::int64_t /*layer*/, const Tensor& /*k*/, const Tensor& /*v*/, const Tensor& /*cos*/,
                            const Tensor& /*sin*/) {}
  // The output of a module that is no linear layer: "model.embed_tokens", "model.layers.0", "model.norm", "lm_head",
  // "visual.patch_embed", "visual.blocks.0", "visual.merger". [tokens, width].
  virtual void on_output(std::string_view /*module*/, const Tensor& /*y*/) {}
};

}  // namespace halftone

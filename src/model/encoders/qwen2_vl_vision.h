#pragma once
// Qwen2-VL's vision tower: patches of 2 x 14 x 14 pixels, two-dimensional rotary positions, full attention within a
// frame. Source: transformers Qwen2VisionTransformerPretrainedModel.

#include "model/parts.h"

namespace halftone {

std::unique_ptr<Encoder> make_qwen2_vl_vision(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                              Stream& stream);

}  // namespace halftone

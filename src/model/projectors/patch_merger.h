#pragma once
// Qwen2-VL's merger: a LayerNorm, then merge_size^2 neighbouring patches together through two linear layers and GELU.
// Source: transformers PatchMerger.

#include "model/parts.h"

namespace halftone {

std::unique_ptr<Projector> make_patch_merger(const VisionConfig& config, const Weights& weights, Numerics numerics,
                                             Stream& stream);

}  // namespace halftone

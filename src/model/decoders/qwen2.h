#pragma once
// Qwen2's decoder: RMSNorm before attention and feed-forward, grouped keys and values, biases on q, k and v, SwiGLU.
// Source: transformers Qwen2VLTextModel.

#include "model/parts.h"

namespace halftone {

std::unique_ptr<Decoder> make_qwen2_decoder(const DecoderConfig& config, const Weights& weights, Numerics numerics,
                                            Stream& stream);

}  // namespace halftone

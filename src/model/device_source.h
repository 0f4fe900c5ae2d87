#pragma once
// A loaded model's weights as ops/device_model.h takes them: a Qwen2 decoder and Qwen2-VL's vision tower. Load it with
// ModelOptions::lazy and Numerics::kBF16; it must outlive the sources' functions.

#include "model/model.h"
#include "ops/device_model.h"

namespace halftone {

// Throws Error for a sliding window, which no device has.
DeviceDecoderSource device_decoder_source(const Model& model);
DeviceVisionSource device_vision_source(const Model& model);

}  // namespace halftone

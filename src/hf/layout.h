#pragma once
// The conventions by which a folder stores quantized tensors.

#include <cstdint>

namespace halftone {

enum class Layout : std::uint8_t { kAsIs, kCompressedTensors, kModelOpt, kAwq, kGptq, kGguf, kGptqV2, kBitsandbytes };

}  // namespace halftone

#pragma once
// The fixed-point weights of one pass of bicubic resampling.

#include <cstdint>
#include <span>
#include <vector>

#include "vision/picture.h"

namespace halftone {

// A sum of weighted 8-bit samples in int32 starts at one half and is shifted right by this many bits.
constexpr int kWeightBits = 32 - 8 - 2;
constexpr std::int32_t kOneHalf = 1 << (kWeightBits - 1);

struct BicubicWeights {
  struct Window {
    std::int64_t first = 0, count = 0;  // the input samples that one output sample is made of
  };
  std::vector<Window> windows;        // [outputs]
  std::int64_t stride = 0;            // weights kept for each output, at least the count of any window
  std::vector<std::int32_t> weights;  // [outputs, stride], zero beyond the window

  std::span<const std::int32_t> of(std::int64_t output) const {
    return std::span(weights).subspan(static_cast<std::size_t>(output * stride),
                                      static_cast<std::size_t>(windows[static_cast<std::size_t>(output)].count));
  }
};

// Computed in double and rounded half away from zero, in Pillow's order of operations, which fixes every bit.
BicubicWeights bicubic_weights(std::int64_t input_size, std::int64_t output_size);

// Which pass is done first decides the bits, since each rounds to 8 bits. Since Pillow 13 it is the vertical one where
// the height shrinks by more than twice what the width loses; earlier versions always began with the horizontal one.
constexpr bool resizes_height_first(const Picture& picture, std::int64_t width, std::int64_t height) {
  return picture.height > height && picture.height - height > 2 * (picture.width - width);
}

// The two passes by plain loops: picture to [height, width, 3].
Picture resize_width_reference(const Picture& picture, std::int64_t width);
Picture resize_height_reference(const Picture& picture, std::int64_t height);

constexpr std::uint8_t round_to_8_bits(std::int32_t sum) {
  const std::int32_t value = sum >> kWeightBits;
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

}  // namespace halftone

#include <utility>

#include "base/error.h"
#include "vision/codec.h"
#include "vision/resample.h"
#include "vision/resample_weights.h"

namespace halftone {
Picture resize_width_reference(const Picture& picture, std::int64_t width) {
  const BicubicWeights weights = bicubic_weights(picture.width, width);
  Picture out = blank_picture(width, picture.height);
  for (std::int64_t y = 0; y < out.height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const std::int64_t first = y * picture.width + weights.windows[static_cast<std::size_t>(x)].first;
      for (std::int64_t c = 0; c < 3; ++c) {
        std::int32_t sum = kOneHalf;
        std::int64_t i = first;
        for (const std::int32_t weight : weights.of(x))
          sum += picture.rgb[static_cast<std::size_t>(3 * i++ + c)] * weight;
        out.rgb[static_cast<std::size_t>((y * width + x) * 3 + c)] = round_to_8_bits(sum);
      }
    }
  }
  return out;
}

Picture resize_height_reference(const Picture& picture, std::int64_t height) {
  const BicubicWeights weights = bicubic_weights(picture.height, height);
  Picture out = blank_picture(picture.width, height);
  const std::int64_t row = picture.width * 3;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t i = 0; i < row; ++i) {
      std::int32_t sum = kOneHalf;
      std::int64_t at = weights.windows[static_cast<std::size_t>(y)].first * row + i;
      for (const std::int32_t weight : weights.of(y)) {
        sum += picture.rgb[static_cast<std::size_t>(at)] * weight;
        at += row;
      }
      out.rgb[static_cast<std::size_t>(y * row + i)] = round_to_8_bits(sum);
    }
  }
  return out;
}

Picture resize_bicubic_reference(const Picture& picture, std::int64_t width, std::int64_t height) {
  require(width > 0 && height > 0, "resize_bicubic_reference", "expected a positive size, found {} x {}", width,
          height);
  Picture resized = picture;
  if (resizes_height_first(picture, width, height)) resized = resize_height_reference(resized, height);
  if (width != picture.width) resized = resize_width_reference(resized, width);
  if (height != resized.height) resized = resize_height_reference(resized, height);
  return resized;
}

}  // namespace halftone

#include "vision/qwen2_vl_processor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "vision/resample.h"

namespace halftone {
namespace {

constexpr double kMaxAspectRatio = 200;
constexpr std::int64_t kMaxResizedPixels = 178'956'970;

// Cuts one row of merged blocks, merge_size patches high, into patches: for each block its patches row by row, for each
// patch [channels, temporal_patch_size, patch_size, patch_size], a still picture's frame repeated.
class Patcher {
 public:
  explicit Patcher(const Qwen2VlProcessor& processor) : processor_(processor), values_(pixel_values(processor)) {}

  void cut(const Picture& picture, std::int64_t block_row, float* out) const {
    const std::int64_t merge = processor_.merge_size, patch = processor_.patch_size, block = merge * patch;
    for (std::int64_t left = 0; left < picture.width; left += block) {
      for (std::int64_t i = 0; i < merge; ++i) {
        for (std::int64_t j = 0; j < merge; ++j) {
          out = cut_patch(picture, block_row * block + i * patch, left + j * patch, out);
        }
      }
    }
  }

 private:
  float* cut_patch(const Picture& picture, std::int64_t top, std::int64_t left, float* out) const {
    const std::int64_t size = processor_.patch_size;
    for (std::size_t c = 0; c < 3; ++c) {
      float* frame = out;
      for (std::int64_t y = 0; y < size; ++y) {
        const std::uint8_t* row = picture.rgb.data() + ((top + y) * picture.width + left) * 3 + c;
        for (std::int64_t x = 0; x < size; ++x) *out++ = values_[c][row[3 * x]];
      }
      for (std::int64_t t = 1; t < processor_.temporal_patch_size; ++t) out = std::copy_n(frame, size * size, out);
    }
    return out;
  }

  const Qwen2VlProcessor& processor_;
  PixelValues values_;
};

}  // namespace

PictureSize smart_resize(PictureSize size, std::int64_t factor, const PixelBudget& budget) {
  constexpr std::string_view kWhere = "smart_resize";
  require(size.height > 0 && size.width > 0, kWhere, "expected a positive size, found {} x {}", size.width,
          size.height);
  require(factor > 0, kWhere, "expected a positive factor, found {}", factor);
  require(budget.min_pixels > 0 && budget.max_pixels > 0, kWhere, "expected a positive pixel budget, found {} to {}",
          budget.min_pixels, budget.max_pixels);
  const auto height = static_cast<double>(size.height), width = static_cast<double>(size.width);
  const auto unit = static_cast<double>(factor);
  const double ratio = std::max(height, width) / std::min(height, width);
  require(ratio <= kMaxAspectRatio, kWhere, "expected an aspect ratio of at most {}, found {} ({} x {} pixels)",
          kMaxAspectRatio, ratio, size.width, size.height);

  // nearbyint rounds half to even, as Python's round does.
  double fitted_height = std::nearbyint(height / unit) * unit, fitted_width = std::nearbyint(width / unit) * unit;
  const double area = fitted_height * fitted_width;
  if (area > static_cast<double>(budget.max_pixels)) {
    const double shrink = std::sqrt(height * width / static_cast<double>(budget.max_pixels));
    fitted_height = std::max(unit, std::floor(height / shrink / unit) * unit);
    fitted_width = std::max(unit, std::floor(width / shrink / unit) * unit);
  } else if (area < static_cast<double>(budget.min_pixels)) {
    const double grow = std::sqrt(static_cast<double>(budget.min_pixels) / (height * width));
    fitted_height = std::ceil(height * grow / unit) * unit;
    fitted_width = std::ceil(width * grow / unit) * unit;
  }
  require(fitted_height >= 1 && fitted_width >= 1, kWhere, "expected a size that does not round to 0, found {} x {}",
          size.width, size.height);
  require(fitted_height < 1e9 && fitted_width < 1e9, kWhere,
          "expected a budget of a representable size, found {} pixels", budget.min_pixels);
  return {static_cast<std::int64_t>(fitted_height), static_cast<std::int64_t>(fitted_width)};
}

PixelValues pixel_values(const Qwen2VlProcessor& processor) {
  PixelValues values{};
  for (std::size_t channel = 0; channel < values.size(); ++channel) {
    for (std::size_t sample = 0; sample < values[channel].size(); ++sample) {
      float value = static_cast<float>(sample);
      if (processor.do_rescale) value = static_cast<float>(static_cast<double>(sample) * processor.rescale_factor);
      if (processor.do_normalize) value = (value - processor.mean[channel]) / processor.std[channel];
      values[channel][sample] = value;
    }
  }
  return values;
}

PictureSize fitted_size(PictureSize size, const Qwen2VlProcessor& processor) {
  const std::int64_t block = processor.patch_size * processor.merge_size;
  const PictureSize fitted = processor.do_resize ? smart_resize(size, block, processor.budget) : size;
  require(fitted.height <= kMaxResizedPixels / fitted.width, "process_picture",
          "expected a resized picture of at most {} pixels, found {} x {}", kMaxResizedPixels, fitted.width,
          fitted.height);
  require(fitted.height % block == 0 && fitted.width % block == 0, "process_picture",
          "expected a width and height divisible by {}, found {} x {}", block, fitted.width, fitted.height);
  return fitted;
}

Picture fit_picture(const Picture& picture, const Qwen2VlProcessor& processor, ThreadPool& pool) {
  const PictureSize size = fitted_size({picture.height, picture.width}, processor);
  return processor.do_resize ? resize_bicubic(picture, size.width, size.height, pool) : picture;
}

PatchedPicture cut_patches(const Picture& fitted, const Qwen2VlProcessor& processor, ThreadPool& pool) {
  PatchedPicture result;
  result.grid_t = 1;
  result.grid_h = fitted.height / processor.patch_size;
  result.grid_w = fitted.width / processor.patch_size;
  result.columns = 3 * processor.temporal_patch_size * processor.patch_size * processor.patch_size;
  result.patches.resize(static_cast<std::size_t>(result.grid_h * result.grid_w * result.columns));
  const Patcher patcher(processor);
  const std::int64_t block_row_values = processor.merge_size * result.grid_w * result.columns;
  pool.parallel_for(result.grid_h / processor.merge_size, [&](std::int64_t block_row) {
    patcher.cut(fitted, block_row, result.patches.data() + block_row * block_row_values);
  });
  return result;
}

PatchedPicture process_picture(const Picture& picture, const Qwen2VlProcessor& processor, ThreadPool& pool) {
  return cut_patches(fit_picture(picture, processor, pool), processor, pool);
}

}  // namespace halftone

#pragma once
// Pictures to the input of Qwen2-VL's vision tower, as transformers' Qwen2VLImageProcessor (the PIL variant) makes
// them.

#include <array>
#include <filesystem>

#include "base/thread_pool.h"
#include "vision/picture.h"

namespace halftone {

struct PixelBudget {
  std::int64_t min_pixels = 56 * 56;
  std::int64_t max_pixels = 28 * 28 * 1280;
  bool operator==(const PixelBudget&) const = default;
};

struct Qwen2VlProcessor {
  PixelBudget budget;
  std::int64_t patch_size = 14, temporal_patch_size = 2, merge_size = 2;
  std::array<float, 3> mean{}, std{};
  double rescale_factor = 1.0 / 255;
  bool do_resize = true, do_rescale = true, do_normalize = true;

  // Reads folder/preprocessor_config.json, or "image_processor" of folder/processor_config.json where there is one,
  // with either spelling of the size limits. Missing fields have transformers' defaults. Throws Error naming file and
  // field.
  static Qwen2VlProcessor load(const std::filesystem::path& folder);
};

// Multiples of `factor` (patch_size * merge_size) that keep the area within the budget. Throws Error for an aspect
// ratio above 200.  Source: transformers smart_resize (Python's round, half to even).
PictureSize smart_resize(PictureSize size, std::int64_t factor, const PixelBudget& budget);

struct PatchedPicture {
  std::int64_t grid_t = 0, grid_h = 0, grid_w = 0;  // in patches
  std::int64_t columns = 0;                         // channels * temporal_patch_size * patch_size^2
  std::vector<float> patches;  // [grid_t * grid_h * grid_w, columns], 2 x 2 blocks of patches together

  std::int64_t tokens(std::int64_t merge_size) const { return grid_t * grid_h * grid_w / (merge_size * merge_size); }
};

// The size of what fit_picture() makes of a picture. Throws as it does.
PictureSize fitted_size(PictureSize size, const Qwen2VlProcessor& processor);
// process_picture() in two steps: the picture in the size that the vision tower takes, then its patches.
// Throws Error for a picture whose sides are no multiples of patch_size * merge_size and that is not to be resized.
Picture fit_picture(const Picture& picture, const Qwen2VlProcessor& processor, ThreadPool& pool);
PatchedPicture cut_patches(const Picture& fitted, const Qwen2VlProcessor& processor, ThreadPool& pool);
PatchedPicture process_picture(const Picture& picture, const Qwen2VlProcessor& processor, ThreadPool& pool);

// What the byte of a channel stands for in patches: rescaled in double and rounded to f32, then normalized in f32, the
// rounding points of transformers' PIL processor.
using PixelValues = std::array<std::array<float, 256>, 3>;
PixelValues pixel_values(const Qwen2VlProcessor& processor);

}  // namespace halftone

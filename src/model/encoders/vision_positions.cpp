#include "model/encoders/vision_positions.h"

#include <algorithm>
#include <cmath>

namespace halftone {
namespace {

// Row and column of each patch, in the order of the processor: block by block of merge_size x merge_size patches.
struct PatchPosition {
  std::int64_t row = 0, column = 0;
};

std::vector<PatchPosition> frame_positions(const PictureGrid& grid, std::int64_t merge) {
  std::vector<PatchPosition> positions;
  for (std::int64_t block_row = 0; block_row < grid.height / merge; ++block_row) {
    for (std::int64_t block_column = 0; block_column < grid.width / merge; ++block_column) {
      for (std::int64_t i = 0; i < merge * merge; ++i) {
        positions.push_back({block_row * merge + i / merge, block_column * merge + i % merge});
      }
    }
  }
  return positions;
}

}  // namespace

RotationTables vision_axis_rotations(const VisionConfig& config, std::int64_t count) {
  const std::int64_t quarter = config.head_dim / 4;
  std::vector<float> inverse;
  for (std::int64_t j = 0; j < quarter; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(2 * quarter);
    inverse.push_back(1.0f / static_cast<float>(std::pow(config.rope_theta, static_cast<double>(exponent))));
  }
  RotationTables tables{Tensor(DType::kF32, {count, quarter}), Tensor(DType::kF32, {count, quarter})};
  float *cos = tables.cos.data<float>(), *sin = tables.sin.data<float>();
  for (std::int64_t position = 0; position < count; ++position) {
    for (const float frequency : inverse) {
      const double angle = static_cast<float>(position) * frequency;
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
  }
  return tables;
}

RotationTables vision_rotations(const VisionConfig& config, std::span<const PictureGrid> grids) {
  const std::int64_t quarter = config.head_dim / 4;
  std::int64_t patches = 0, most = 0;
  for (const PictureGrid& grid : grids) {
    patches += grid.patches();
    most = std::max({most, grid.height, grid.width});
  }
  const RotationTables turns = vision_axis_rotations(config, most);
  RotationTables tables{Tensor(DType::kF32, {patches, 2 * quarter}), Tensor(DType::kF32, {patches, 2 * quarter})};
  float *cos = tables.cos.data<float>(), *sin = tables.sin.data<float>();
  for (const PictureGrid& grid : grids) {
    const std::vector<PatchPosition> frame = frame_positions(grid, config.merge_size);
    for (std::int64_t t = 0; t < grid.time; ++t) {
      for (const PatchPosition& position : frame) {
        for (const std::int64_t axis : {position.row, position.column}) {
          cos = std::copy_n(turns.cos.data<float>() + axis * quarter, quarter, cos);
          sin = std::copy_n(turns.sin.data<float>() + axis * quarter, quarter, sin);
        }
      }
    }
  }
  return tables;
}

std::vector<std::int64_t> vision_frame_ends(std::span<const PictureGrid> grids) {
  std::vector<std::int64_t> ends;
  std::int64_t end = 0;
  for (const PictureGrid& grid : grids) {
    for (std::int64_t t = 0; t < grid.time; ++t) ends.push_back(end += grid.height * grid.width);
  }
  return ends;
}

}  // namespace halftone

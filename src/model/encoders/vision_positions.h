#pragma once
// Where the patches of pictures stand: the rotations of their queries and keys, and which of them see each other.

#include <vector>

#include "model/mrope.h"

namespace halftone {

// The rotation of each row, or column, of patches below `count`: [count, head_dim / 4].
RotationTables vision_axis_rotations(const VisionConfig& config, std::int64_t count);

// [patches, head_dim / 2]: a quarter of the head turns by the row, a quarter by the column.
RotationTables vision_rotations(const VisionConfig& config, std::span<const PictureGrid> grids);

// Patches before the end of each frame: a patch sees its own frame.
std::vector<std::int64_t> vision_frame_ends(std::span<const PictureGrid> grids);

}  // namespace halftone

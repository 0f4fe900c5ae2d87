#pragma once
// Positions of text and picture tokens on three axes (M-RoPE) and the rotations that follow from them.
// Source: transformers Qwen2VLModel.get_rope_index, Qwen2VLRotaryEmbedding.

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "ops/norm.h"

namespace halftone {

struct Position {
  std::int32_t time = 0, height = 0, width = 0;
  bool operator==(const Position&) const = default;
};

// A picture's patches before merging.
struct PictureGrid {
  std::int64_t time = 1, height = 0, width = 0;
  std::int64_t patches() const { return time * height * width; }
  std::int64_t tokens(std::int64_t merge_size) const { return patches() / (merge_size * merge_size); }
  bool operator==(const PictureGrid&) const = default;
};

struct Positions {
  std::vector<Position> values;  // [tokens]
  // The next token's position on all axes; the position of token i >= tokens is next + i - tokens.
  std::int32_t next = 0;
};

// Each run of `picture_token` belongs to the next of `grids`; text counts up on all axes, a picture spans height and
// width from where it starts. Throws Error when runs and grids do not fit.
Positions mrope_positions(std::span<const std::int32_t> tokens, std::int32_t picture_token,
                          std::span<const PictureGrid> grids, std::int64_t merge_size);

// cos, sin: [tokens, head_dim / 2] f32. In kBF16 both are rounded to bf16.
struct RotationTables {
  Tensor cos, sin;
};
RotationTables mrope_tables(const DecoderConfig& config, std::span<const Position> positions, Numerics numerics);
// The same from the tables of the positions 0, 1, ... on all axes: no cosine is computed again. Throws Error for a position
// beyond them.
RotationTables mrope_tables(const DecoderConfig& config, std::span<const Position> positions,
                            const RotationTables& by_position);

}  // namespace halftone

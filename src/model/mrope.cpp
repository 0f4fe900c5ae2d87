#include "model/mrope.h"

#include <algorithm>
#include <cmath>

#include "formats/bf16.h"

namespace halftone {
namespace {

constexpr std::string_view kWhere = "mrope_positions";

void append_picture(const PictureGrid& grid, std::int64_t merge_size, Positions& positions) {
  const std::int64_t height = grid.height / merge_size, width = grid.width / merge_size;
  const std::int32_t start = positions.next;
  for (std::int64_t t = 0; t < grid.time; ++t) {
    for (std::int64_t h = 0; h < height; ++h) {
      for (std::int64_t w = 0; w < width; ++w) {
        positions.values.push_back({start + static_cast<std::int32_t>(t), start + static_cast<std::int32_t>(h),
                                    start + static_cast<std::int32_t>(w)});
      }
    }
  }
  positions.next = start + static_cast<std::int32_t>(std::max(height, width));
}

}  // namespace

Positions mrope_positions(std::span<const std::int32_t> tokens, std::int32_t picture_token,
                          std::span<const PictureGrid> grids, std::int64_t merge_size) {
  Positions positions;
  positions.values.reserve(tokens.size());
  std::size_t picture = 0;
  for (std::size_t i = 0; i < tokens.size();) {
    if (tokens[i] != picture_token) {
      positions.values.push_back({positions.next, positions.next, positions.next});
      ++positions.next;
      ++i;
      continue;
    }
    const auto run_end = std::find_if(tokens.begin() + static_cast<std::ptrdiff_t>(i), tokens.end(),
                                      [&](std::int32_t token) { return token != picture_token; });
    const auto run = run_end - tokens.begin() - static_cast<std::ptrdiff_t>(i);
    require(picture < grids.size(), kWhere, "expected {} runs of picture tokens, found more", grids.size());
    const PictureGrid& grid = grids[picture++];
    require(run == grid.tokens(merge_size), kWhere, "picture {}: expected {} tokens, found {}", picture,
            grid.tokens(merge_size), run);
    append_picture(grid, merge_size, positions);
    i += static_cast<std::size_t>(run);
  }
  require(picture == grids.size(), kWhere, "expected {} runs of picture tokens, found {}", grids.size(), picture);
  return positions;
}

RotationTables mrope_tables(const DecoderConfig& config, std::span<const Position> positions, Numerics numerics) {
  const std::int64_t half = config.head_dim / 2, tokens = static_cast<std::int64_t>(positions.size());
  std::vector<float> inverse(static_cast<std::size_t>(half));
  for (std::int64_t j = 0; j < half; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(config.head_dim);
    inverse[static_cast<std::size_t>(j)] =
        1.0f / static_cast<float>(std::pow(config.rope_theta, static_cast<double>(exponent)));
  }
  RotationTables tables{Tensor(DType::kF32, {tokens, half}), Tensor(DType::kF32, {tokens, half})};
  const std::int64_t time_end = config.mrope_section[0], height_end = time_end + config.mrope_section[1];
  float* cos = tables.cos.data<float>();
  float* sin = tables.sin.data<float>();
  for (const Position& position : positions) {
    for (std::int64_t j = 0; j < half; ++j) {
      const std::int32_t axis = j < time_end ? position.time : j < height_end ? position.height : position.width;
      // the angle is rounded to f32, as transformers computes it; its cosine and sine are exact to f32
      const double angle = static_cast<float>(axis) * inverse[static_cast<std::size_t>(j)];
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
  }
  if (numerics == Numerics::kBF16) {
    for (Tensor* table : {&tables.cos, &tables.sin}) {
      float* values = table->data<float>();
      for (std::int64_t i = 0; i < table->numel(); ++i) values[i] = bf16::round(values[i]);
    }
  }
  return tables;
}

RotationTables mrope_tables(const DecoderConfig& config, std::span<const Position> positions,
                            const RotationTables& by_position) {
  const std::int64_t half = by_position.cos.dim(1), tokens = static_cast<std::int64_t>(positions.size());
  const std::int64_t time_end = config.mrope_section[0], height_end = time_end + config.mrope_section[1];
  RotationTables tables{Tensor(DType::kF32, {tokens, half}), Tensor(DType::kF32, {tokens, half})};
  for (std::int64_t token = 0; token < tokens; ++token) {
    const Position& position = positions[static_cast<std::size_t>(token)];
    const auto copy = [&](std::int64_t axis, std::int64_t begin, std::int64_t end) {
      require(axis >= 0 && axis < by_position.cos.dim(0), kWhere, "expected positions below {}, got {}",
              by_position.cos.dim(0), axis);
      std::copy_n(by_position.cos.data<float>() + axis * half + begin, end - begin,
                  tables.cos.data<float>() + token * half + begin);
      std::copy_n(by_position.sin.data<float>() + axis * half + begin, end - begin,
                  tables.sin.data<float>() + token * half + begin);
    };
    copy(position.time, 0, time_end);
    copy(position.height, time_end, height_end);
    copy(position.width, height_end, half);
  }
  return tables;
}

}  // namespace halftone

#pragma once
// Products of packed weights: the entry points that are compiled for several instruction sets. The input comes as
// 32-bit words that each lane multiplies at once: an f32, two int16, or four bytes.

#include "backend/cpu/panels.h"

namespace halftone {

// Which instructions multiply.
enum class PanelArithmetic : std::uint8_t { kF32, kInt16Pairs, kInt8Quads };

constexpr std::int64_t cols_per_word(PanelArithmetic arithmetic) {
  return arithmetic == PanelArithmetic::kF32 ? 1 : arithmetic == PanelArithmetic::kInt16Pairs ? 2 : 4;
}

// A few rows of x against panels [begin, end). x: [rows] of words, `stride` apart. scales: [rows] s_in where tokens
// have their own, else null. y: [rows, N].
void multiply_rows(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
                   std::int64_t rows, std::int64_t begin, std::int64_t end, const float* scales, float* y);
// The panels that multiply_rows() takes at once: ranges of a multiple of it run best.
std::int64_t row_panels(const Panels& panels, PanelArithmetic arithmetic, std::int64_t rows);
// Up to this many rows multiply_rows() is faster than multiply_tiles().
std::int64_t most_rows(const Panels& panels, PanelArithmetic arithmetic);

// How M rows are cut into tiles of nearly equal height; tile t holds the rows [tile_begin(t), tile_begin(t + 1)).
struct Tiling {
  std::int64_t rows = 0;
  std::int64_t count = 0;
  std::int64_t tile_begin(std::int64_t t) const { return rows * t / count; }
};

// The tallest tile of this machine's instruction set, and how many panels lie side by side in one.
struct TileShape {
  std::int64_t rows = 0;
  std::int64_t panels = 0;
};
TileShape tile_shape();

// Tiles [tile_begin, tile_end) of x against panels [begin, end). x: [M] of words, `stride` apart. y: [M, N].
void multiply_tiles(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
                    const Tiling& tiling, std::int64_t tile_begin, std::int64_t tile_end, std::int64_t begin,
                    std::int64_t end, const float* scales, float* y);

// True where the CPU has one of the instruction sets that the products are compiled for.
bool has_vectors();
// True where it has AVX-512 with VNNI.
bool has_vnni();

}  // namespace halftone

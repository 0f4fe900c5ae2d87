#include "backend/cpu/simd.h"
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/panel_products.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <vector>

#include "backend/cpu/panel_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halftone::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
// Without vectors the reference is as good: the kernels are left out, and has_vectors() keeps them from being chosen.
void rows_of(const Panels&, PanelArithmetic, const std::uint32_t*, std::int64_t, std::int64_t, std::int64_t,
             std::int64_t, const float*, float*) {}
void tiles_of(const Panels&, PanelArithmetic, const std::uint32_t*, std::int64_t, const Tiling&, std::int64_t,
              std::int64_t, std::int64_t, std::int64_t, const float*, float*) {}
std::int64_t row_panels_of(const Panels&, PanelArithmetic, std::int64_t) { return 1; }
TileShape shape_of_tile() { return {}; }
#else
// Calls visit(Op, Decode) for what the storage holds.
template <class Visit>
void with_decoder(const Panels& panels, PanelArithmetic arithmetic, Visit visit) {
#if HWY_TARGET == HWY_AVX3
  if (arithmetic == PanelArithmetic::kInt8Quads) return visit(MultiplyInt8Quads(), DecodeNothing<std::int32_t>(panels));
#endif
  if (arithmetic == PanelArithmetic::kInt16Pairs) return visit(MultiplyInt16Pairs(), DecodeInt8Pairs(panels));
  if (panels.zeros.defined()) {
    if (panels.storage == PanelStorage::kNibble) return visit(MultiplyF32(), Affine<DecodeNibble>(panels));
    return visit(MultiplyF32(), Affine<DecodeInt8>(panels));
  }
  switch (panels.storage) {
    case PanelStorage::kF32:
      return visit(MultiplyF32(), DecodeNothing<float>(panels));
    case PanelStorage::kBF16:
      return visit(MultiplyF32(), DecodeBf16(panels));
    case PanelStorage::kF16:
      return visit(MultiplyF32(), DecodeF16(panels));
    case PanelStorage::kInt8:
      return visit(MultiplyF32(), DecodeInt8(panels));
    case PanelStorage::kE4M3:
      return visit(MultiplyF32(), DecodeE4m3(panels));
    case PanelStorage::kNibble:
      if (!panels.nibbles_in_bf16) return visit(MultiplyF32(), DecodeWideNibble(panels));
      return visit(MultiplyF32(), DecodeNibble(panels));
    default:
      fail("linear", "these weights are packed for another instruction set");
  }
}

void rows_of(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
             std::int64_t rows, std::int64_t begin, std::int64_t end, const float* scales, float* y) {
  with_decoder(panels, arithmetic, [&](auto op, auto decode) {
    multiply_rows_with<decltype(op), decltype(decode)>(panels, x, stride, rows, begin, end, scales, y);
  });
}

void tiles_of(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
              const Tiling& tiling, std::int64_t tile_begin, std::int64_t tile_end, std::int64_t begin,
              std::int64_t end, const float* scales, float* y) {
  with_decoder(panels, arithmetic, [&](auto op, auto decode) {
    TileProduct<decltype(op), decltype(decode)>(panels, x, stride, tiling, tile_begin, tile_end, begin, end, scales)
        .run(y);
  });
}

std::int64_t row_panels_of(const Panels& panels, PanelArithmetic arithmetic, std::int64_t rows) {
  std::int64_t count = 1;
  with_decoder(panels, arithmetic, [&](auto, auto decode) { count = panels_of_pass<decltype(decode)>(rows); });
  return count;
}

TileShape shape_of_tile() { return {kTileRows, kTilePanels}; }
#endif

}  // namespace halftone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halftone {

HWY_EXPORT(rows_of);
HWY_EXPORT(tiles_of);
HWY_EXPORT(row_panels_of);
HWY_EXPORT(shape_of_tile);

void multiply_rows(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
                   std::int64_t rows, std::int64_t begin, std::int64_t end, const float* scales, float* y) {
  HWY_DYNAMIC_DISPATCH(rows_of)(panels, arithmetic, x, stride, rows, begin, end, scales, y);
}

void multiply_tiles(const Panels& panels, PanelArithmetic arithmetic, const std::uint32_t* x, std::int64_t stride,
                    const Tiling& tiling, std::int64_t tile_begin, std::int64_t tile_end, std::int64_t begin,
                    std::int64_t end, const float* scales, float* y) {
  HWY_DYNAMIC_DISPATCH(tiles_of)(panels, arithmetic, x, stride, tiling, tile_begin, tile_end, begin, end, scales, y);
}

std::int64_t row_panels(const Panels& panels, PanelArithmetic arithmetic, std::int64_t rows) {
  return HWY_DYNAMIC_DISPATCH(row_panels_of)(panels, arithmetic, rows);
}

std::int64_t most_rows(const Panels& panels, PanelArithmetic) {
  // tiles decode a panel once, which pays sooner where decoding is dear
  return panels.storage == PanelStorage::kNibble || panels.storage == PanelStorage::kE4M3 ? 4 : 8;
}

TileShape tile_shape() { return HWY_DYNAMIC_DISPATCH(shape_of_tile)(); }

bool has_vectors() { return tile_shape().rows > 0; }

bool has_vnni() {
#if defined(__x86_64__)
  return (hwy::SupportedTargets() & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace halftone
#endif

#pragma once
// A weight on the device and what multiplies it.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "backend/cuda/device/linear.h"
#include "backend/cuda/device_arena.h"
#include "backend/cuda/device_matrix.h"
#include "backend/cuda/device_uploader.h"
#include "base/rounding.h"
#include "ops/linear_kernels.h"

namespace halftone::cuda {

// Several matrices that share their input are one, their rows one after another, as LinearSource says.
struct LinearWeight {
  QuantSpec spec;
  InputQuant input;
  std::int64_t rows = 0, cols = 0;  // N, K
  // Of 4 bits: the tiles of start_pack_nibble_tiles(). Others: rows, each padded with zeros to a multiple of 16 bytes and of
  // eight inputs; with halves() of 64 bytes, in the order of ByteRowArguments.
  const void* codes = nullptr;
  // From row to row, or from tile to tile.
  std::int64_t row_bytes = 0;
  // Scales over whole rows, [N]; null where there are none or they are by group.
  const float* row_scales = nullptr;
  // Scales of groups, as the file stores them, and zeros of INT4 as bf16(136 + zero), [ceil(N / 8), group_stride(), 8]; null
  // where there are none. Other zeros, and offsets: group_shifts instead, [..., 8, 2]. A row with zeros is one group.
  const void* group_scales = nullptr;
  const std::uint16_t* group_zeros = nullptr;
  const float* group_shifts = nullptr;
  bool shifted = false;  // there are group_shifts
  DType group_scale_type = DType::kF32;
  std::int64_t group = 0;              // inputs under one scale; K where a scale covers the row
  const float* row_factors = nullptr;  // [N]: LinearSource::factor of each row
  float row_factor = 0.0f;             // the same where it is one for all rows, else 0
  // Of E4M3 by tiles, those of a tile in one part: [ceil(N / 128), ceil(K / 512) 4], as cuBLASLt reads them; else null.
  const float* tile_scales = nullptr;
  // Of E4M3 with scales over rows: [N], scale times factor; and the same where it is one for all rows, else 0.
  const float* row_products = nullptr;
  float row_product = 0.0f;
  const float* bias = nullptr;  // [N] or null
  // All row_factors are 1 and bf16 holds the bias, if there is one: plain_bias, [N] or null.
  bool bare = false;
  const std::uint16_t* plain_bias = nullptr;
  bool plain = false;       // bare bf16 whose inputs are not quantized
  std::int64_t nbytes = 0;  // codes, scales, zeros, factors and bias

  std::int64_t groups() const { return group > 0 ? divide_up(cols, group) : 1; }
  // How the codes are stored: 6 bits as E4M3 and E5M2 as bf16, which hold them all, the others as they are.
  CodeType code_type() const;
  Scaling scaling() const;
  bool halves() const;
  // Groups of a row in memory: whole chunks of the decoding kernel have theirs, those beyond K are 0.
  std::int64_t group_stride() const;
  // True where the input is INT8 codes as they are, and their products are summed as integers.
  bool multiplies_integers() const { return sums_integers(spec, input) && !group_scales; }
  // True where the input is E4M3 with scales of tokens, and so is the weight, with scales of rows.
  bool multiplies_e4m3() const;
};

// Copies a weight to the device and brings it into the order that the kernels read. The scales stay what the file says.
// codes: where the rows of a single bf16 weight lie already as the kernels read them; then they are not copied.
// names: of the weights, one for each, or none. Throws Error("[name] ..."), or "[cuda linear] ..." without
// a name, for an E4M3 weight, or a scale of one byte, that is NaN.
LinearWeight upload_linear(const LinearSource& source, DeviceArena& arena, DeviceUploader& uploader,
                           const void* codes = nullptr, std::span<const std::string> names = {});

}  // namespace halftone::cuda

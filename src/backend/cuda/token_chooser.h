#pragma once
// From logits on the device to the next tokens: the largest logits, or draws as ops/token_draw.h has them.

#include <span>

#include "backend/cuda/decode_ops.h"
#include "backend/cuda/device/draw_token.h"
#include "backend/cuda/device_arena.h"

namespace halftone::cuda {

class TokenChooser {
 public:
  static std::size_t bytes(std::int64_t rows);
  // For up to `rows` rows.
  TokenChooser(std::int64_t rows, DeviceArena& arena, const DeviceStream& stream);

  // How each row's next token is chosen; a draw leaves the next one's.
  void load(std::span<const TokenDraw> draws, const DeviceStream& stream);
  // What start() starts hangs on this alone: a graph of it may be run again after a load() with equal kernels.
  struct Kernels {
    bool draws = false;
    DrawCuts cuts;
    auto operator<=>(const Kernels&) const = default;
  };
  const Kernels& kernels() const { return kernels_; }

  // logits: [rows, cols] f32; tokens, gaps: as Argmax has them, but that drawn tokens need not be those of the largest logits.
  struct Call {
    DeviceMatrix logits;
    std::int32_t* tokens = nullptr;
    float* gaps = nullptr;
  };
  void start(const Call& call, const Launch& launch) const;

 private:
  std::int64_t capacity_;
  Kernels kernels_;
  void* argmax_memory_;
  TokenDraw* draws_;
  DrawProgress* progress_;
};

}  // namespace halftone::cuda

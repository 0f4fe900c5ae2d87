#include "backend/cuda/token_chooser.h"

#include "backend/cuda/op_profile.h"
#include "backend/cuda/upload.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda draw";

}  // namespace

std::size_t TokenChooser::bytes(std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  return DeviceArena::padded(static_cast<std::size_t>(argmax_workspace(rows))) +
         DeviceArena::padded(count * sizeof(TokenDraw)) + DeviceArena::padded(count * sizeof(DrawProgress));
}

TokenChooser::TokenChooser(std::int64_t rows, DeviceArena& arena, const DeviceStream& stream)
    : capacity_(rows),
      argmax_memory_(arena.allocate(static_cast<std::size_t>(argmax_workspace(rows)))),
      draws_(arena.allocate<TokenDraw>(static_cast<std::size_t>(rows))),
      progress_(arena.allocate<DrawProgress>(static_cast<std::size_t>(rows))) {
  const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(DrawProgress);
  check(cudaMemsetAsync(progress_, 0, bytes, stream.launch().stream), kWhere);
}

void TokenChooser::load(std::span<const TokenDraw> draws, const DeviceStream& stream) {
  require(std::ssize(draws) <= capacity_, kWhere, "expected up to {} rows, got {}", capacity_, draws.size());
  kernels_ = {};
  for (const TokenDraw& draw : draws) {
    require(draw.top_p > 0 && draw.top_k >= 0, kWhere, "expected top_p above 0 and top_k of 0 or more, got {} and {}",
            draw.top_p, draw.top_k);
    if (draw.greedy()) continue;
    kernels_.draws = true;
    kernels_.cuts.top_k |= draw.top_k > 0;
    kernels_.cuts.top_p |= draw.top_p < 1;
  }
  if (kernels_.draws) copy_to_device(draws_, draws, stream, kWhere);
}

void TokenChooser::start(const Call& call, const Launch& launch) const {
  const DeviceMatrix& logits = call.logits;
  require(logits.rows <= capacity_, kWhere, "expected up to {} rows, got {}", capacity_, logits.rows);
  argmax({logits, argmax_memory_, call.tokens, call.gaps}, launch);
  if (!kernels_.draws || logits.rows == 0) return;
  const ProfiledOp watched(launch, "draw_token", static_cast<double>(logits.rows * logits.cols) * 4);
  start_draw_token({static_cast<const float*>(logits.data), logits.stride, draws_, progress_, call.tokens,
                    static_cast<int>(logits.rows), static_cast<int>(logits.cols)},
                   kernels_.cuts, launch);
}

}  // namespace halftone::cuda

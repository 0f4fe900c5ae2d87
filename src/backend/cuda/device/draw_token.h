#pragma once
// ops/token_draw.h on a device, by raw pointers. Whatever blocks there are, sums are integers: each token is the CPU's.

#include <compare>
#include <cstdint>

#include "backend/cuda/launch.h"
#include "ops/token_draw.h"

namespace halftone::cuda {

// A row's place in its draw; zeros before and after.
struct DrawProgress {
  static constexpr int kBins = 256;
  // Of the tokens whose key begins with `prefix`, by the next eight bits of the key.
  unsigned long long weights[kBins];
  std::uint32_t counts[kBins];
  std::uint32_t prefix, blocks_done;
  unsigned long long weight_before, count_before;  // of the tokens whose key begins with less
  unsigned long long total, target;                // weight of what is left; what the sum that is looked for reaches
  std::uint32_t key;                               // the drawn token is that number `rank`, from 1, of this key
  unsigned long long rank;
};

struct DrawTokenArguments {
  const float* logits;  // [rows, cols]
  std::int64_t stride;
  TokenDraw* draws;  // [rows]: the next token's afterwards
  DrawProgress* progress;
  std::int32_t* tokens;  // [rows]: of the largest logits, or -1, which stays; then the drawn ones
  int rows, cols;
};
// Which cuts some row has.
struct DrawCuts {
  bool top_k = false, top_p = false;
  auto operator<=>(const DrawCuts&) const = default;
};
// Rows that are greedy stay as they are.
void start_draw_token(const DrawTokenArguments& arguments, const DrawCuts& cuts, const Launch& launch);

}  // namespace halftone::cuda

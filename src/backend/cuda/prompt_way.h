#pragma once
// How a weight's products with prompts are computed, and what that needs of memory.

#include "backend/cuda/linear_weight.h"
#include "base/rounding.h"

namespace halftone::cuda {

// linear_prompt.h says what each computes.
enum class PromptWay { kPlain, kIntegers, kE4m3, kTiles, kGroups, kNvfp4, kMxfp4, kExpanded };

// It hangs on the weight and on the device alone.
PromptWay prompt_way(const LinearWeight& weight);

// True where 128 inputs of a row have scales in the product, which then takes a multiple of kBlockRows tokens.
constexpr bool scales_blocks(PromptWay way) { return way == PromptWay::kTiles || way == PromptWay::kGroups; }
constexpr std::int64_t kBlockRows = 4;
constexpr std::int64_t product_rows(PromptWay way, std::int64_t rows) {
  return scales_blocks(way) ? round_up(rows, kBlockRows) : rows;
}
constexpr bool multiplies_e2m1(PromptWay way) { return way == PromptWay::kNvfp4 || way == PromptWay::kMxfp4; }
// True where the weight is written as bf16 first.
bool needs_expansion(const LinearWeight& weight, PromptWay way);
// True where the product is y but for the residual: nothing is left to multiply or to add.
bool is_result(const LinearWeight& weight, PromptWay way);

// Where a weight's row begins as bf16.
constexpr std::int64_t expanded_stride(std::int64_t cols) { return round_up(cols, 8); }
// Groups of kInputGroup inputs.
constexpr std::int64_t input_groups(std::int64_t cols) { return divide_up(cols, kInputGroup); }

// Sums that are no result yet are written for so many tokens at once: those of all tokens of several prompts would need
// most of the workspace.
constexpr std::int64_t kMostSummedRows = 2048;
static_assert(kMostSummedRows % kBlockRows == 0);

// What is where in a run's workspace, in bytes from its beginning, which is the library's own part.
struct PromptLayout {
  std::size_t w_codes, w_scales, x_codes, x_scales, product, end;
};
// apart: the product of `rows` tokens does not go to y at once.
PromptLayout prompt_layout(const LinearWeight& weight, PromptWay way, std::int64_t rows, bool apart);

}  // namespace halftone::cuda

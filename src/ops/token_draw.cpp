#include "ops/token_draw.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace halftone {

std::int32_t draw_token(std::span<const float> logits, std::int32_t best, const TokenDraw& draw) {
  const float largest = logits[static_cast<std::size_t>(best)];
  std::vector<std::pair<std::uint32_t, std::int32_t>> candidates;  // by key, then by id
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::uint32_t key = draw_key(largest, logits[i], draw.keys_per_logit);
    if (key < kLastDrawKey) candidates.emplace_back(key, static_cast<std::int32_t>(i));
  }
  if (draw.top_k > 0 && draw.top_k < std::ssize(candidates)) {
    std::ranges::nth_element(candidates, candidates.begin() + draw.top_k);
    candidates.resize(static_cast<std::size_t>(draw.top_k));
  }
  std::ranges::sort(candidates);
  std::uint64_t total = 0;
  for (const auto& [key, token] : candidates) total += draw_weight(key);
  std::uint64_t kept = 0;
  const std::uint64_t cut = draw_cut(draw.top_p, total);
  for (std::size_t i = 0; kept < cut; ++i) kept += draw_weight(candidates[i].first);
  const std::uint64_t point = draw_point(Random(draw.random).next(), kept);
  std::size_t drawn = 0;
  std::uint64_t sum = draw_weight(candidates[0].first);
  while (sum <= point) sum += draw_weight(candidates[++drawn].first);
  return candidates[drawn].second;
}

}  // namespace halftone

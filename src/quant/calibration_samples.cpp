#include "quant/calibration_samples.h"

#include <algorithm>
#include <cstring>

namespace halftone {
namespace {

// Every placeholder becomes as many as its picture has tokens.
std::vector<TokenId> repeat_placeholders(const std::vector<TokenId>& tokens, TokenId placeholder,
                                         const std::vector<std::int64_t>& counts, std::string_view sample) {
  std::vector<TokenId> repeated;
  std::size_t picture = 0;
  for (const TokenId token : tokens) {
    if (token == placeholder) {
      require(picture < counts.size(), sample, "expected {} pictures, found more placeholders", counts.size());
      repeated.insert(repeated.end(), static_cast<std::size_t>(counts[picture++]), token);
    } else {
      repeated.push_back(token);
    }
  }
  require(picture == counts.size(), sample, "expected {} placeholders, found {}", counts.size(), picture);
  return repeated;
}

Tensor join_patches(const std::vector<PatchedPicture>& pictures, std::size_t count) {
  if (count == 0) return {};
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < count; ++i) rows += pictures[i].grid_t * pictures[i].grid_h * pictures[i].grid_w;
  Tensor patches(DType::kF32, {rows, pictures[0].columns});
  float* target = patches.data<float>();
  for (std::size_t i = 0; i < count; ++i)
    target = std::copy(pictures[i].patches.begin(), pictures[i].patches.end(), target);
  return patches;
}

}  // namespace

std::size_t truncate_tokens(std::int64_t max_tokens, TokenId picture_token, std::optional<TokenId> marker,
                            std::vector<TokenId>& tokens) {
  std::size_t cut = std::min(tokens.size(), static_cast<std::size_t>(max_tokens));
  if (cut < tokens.size() && cut > 0 && tokens[cut] == picture_token && tokens[cut - 1] == picture_token) {
    while (cut > 0 && tokens[cut - 1] == picture_token) --cut;
    if (cut > 0 && marker && tokens[cut - 1] == *marker) --cut;
  }
  tokens.resize(cut);
  std::size_t runs = 0;
  for (std::size_t i = 0; i < cut; ++i) {
    if (tokens[i] == picture_token && (i == 0 || tokens[i - 1] != picture_token)) ++runs;
  }
  return runs;
}

SamplePreparer::SamplePreparer(const std::filesystem::path& checkpoint, const ModelConfig& config,
                               std::int64_t max_tokens)
    : tokenizer_(Tokenizer::load(checkpoint)),
      template_(ChatTemplate::load(checkpoint)),
      processor_(Qwen2VlProcessor::load(checkpoint)),
      picture_token_(config.picture_token),
      max_tokens_(max_tokens) {
  require(max_tokens > 0, "calibration", "expected 1 token or more a sample, got {}", max_tokens);
}

PixelBudget SamplePreparer::budget_for(std::size_t pictures) const {
  const std::int64_t side = processor_.patch_size * processor_.merge_size;
  const std::int64_t tokens = std::max<std::int64_t>(1, max_tokens_ * 3 / 4 / static_cast<std::int64_t>(pictures));
  PixelBudget budget = processor_.budget;
  budget.max_pixels = std::min(budget.max_pixels, tokens * side * side);
  budget.min_pixels = std::min(budget.min_pixels, budget.max_pixels);
  return budget;
}

PreparedSample SamplePreparer::prepare(const CalibrationSample& sample, ThreadPool& pool) const {
  PreparedSample prepared;
  if (sample.messages.empty()) {
    prepared.tokens = tokenizer_->encode(sample.text);
    truncate_tokens(max_tokens_, picture_token_, {}, prepared.tokens);
    return prepared;
  }
  Qwen2VlProcessor processor = processor_;
  if (!sample.pictures.empty()) processor.budget = budget_for(sample.pictures.size());
  std::vector<PatchedPicture> pictures;
  std::vector<std::int64_t> counts;
  for (const auto& path : sample.pictures) {
    pictures.push_back(process_picture(load_picture(path), processor, pool));
    counts.push_back(pictures.back().tokens(processor.merge_size));
  }
  prepared.tokens = repeat_placeholders(tokenizer_->encode(template_.render(sample.messages, false)), picture_token_,
                                        counts, sample.id);
  const std::size_t left =
      truncate_tokens(max_tokens_, picture_token_, tokenizer_->find("<|vision_start|>"), prepared.tokens);
  for (std::size_t i = 0; i < left; ++i) {
    prepared.grids.push_back({pictures[i].grid_t, pictures[i].grid_h, pictures[i].grid_w});
  }
  prepared.patches = join_patches(pictures, left);
  return prepared;
}

}  // namespace halftone

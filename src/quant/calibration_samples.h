#pragma once
// Calibration samples as the model takes them: tokens and patches.

#include <memory>
#include <vector>

#include "data/calibration.h"
#include "model/config.h"
#include "model/mrope.h"
#include "tensor/tensor.h"
#include "text/tokenizer.h"
#include "vision/qwen2_vl_processor.h"

namespace halftone {

struct PreparedSample {
  std::vector<TokenId> tokens;     // each picture's placeholder repeated
  std::vector<PictureGrid> grids;  // of the pictures whose tokens are all there
  Tensor patches;                  // [sum of grids' patches, columns] f32; undefined without pictures
};

class SamplePreparer {
 public:
  // Reads tokenizer, chat template and processor of the checkpoint's folder.
  SamplePreparer(const std::filesystem::path& checkpoint, const ModelConfig& config, std::int64_t max_tokens);

  // At most max_tokens tokens. A picture that would be cut in half is left out with all that follows it. Pictures are
  // shrunk, if they must be, so that those of one sample take at most three quarters of max_tokens.
  // Throws Error naming sample and file for pictures that cannot be read.
  PreparedSample prepare(const CalibrationSample& sample, ThreadPool& pool) const;

 private:
  PixelBudget budget_for(std::size_t pictures) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  ChatTemplate template_;
  Qwen2VlProcessor processor_;
  std::int32_t picture_token_;
  std::int64_t max_tokens_;
};

// Cuts to max_tokens; a run of `picture_token` that would be cut goes whole, and the marker before it if that is
// `marker`. Returns the number of runs that are left.
std::size_t truncate_tokens(std::int64_t max_tokens, TokenId picture_token, std::optional<TokenId> marker,
                            std::vector<TokenId>& tokens);

}  // namespace halftone

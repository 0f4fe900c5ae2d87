#pragma once
// Measures of how likely a model finds given text: perplexity, and the KL divergence from the baseline.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/sample.h"
#include "data/text_file.h"
#include "runtime/engine.h"

namespace halftone {

// Sums over the tokens of one answer or window, in natural units and double.
struct LikelihoodResult {
  std::string id;
  std::string picture;          // SHA-256 of the picture's file; empty without one
  std::int64_t tokens = 0;      // that were predicted
  double nll = 0;               // of these tokens
  std::optional<double> kl;     // KL(baseline || this); none for perplexity
  std::int64_t top1_agree = 0;  // tokens whose likeliest prediction is the baseline's; 0 for perplexity
  double seconds = 0;
};

// log(sum(exp(logits))) in double. Throws Error for NaN and for infinities.
double log_sum_exp(std::span<const float> logits);
// sum p (log p - log q) of two rows of logits [vocabulary], in double.
double kl_divergence(std::span<const float> p, std::span<const float> q);
// The first of the largest.
std::size_t argmax(std::span<const float> logits);

// What the ids of the two kinds of samples begin with.
inline constexpr std::string_view kAnswersPrefix = "perplexity/answers/", kWindowsPrefix = "perplexity/windows/";

// The samples of a perplexity task over `text`:
//   "perplexity/answers/0000"  a conversation of its own; predicted are the tokens after each
//                              "<|im_start|>assistant\n" up to and with "<|im_end|>"
//   "perplexity/windows/0000"  non-overlapping windows of `window` tokens of the whole text, the tail dropped;
//                              predicted is every token but a window's first
// truth: {"ids": [token], "predicted": [[begin, end)]}.  Text without conversations has windows only.
TaskData perplexity_data(const TextFile& text, const Tokenizer& tokenizer, std::int64_t window = 256);
LikelihoodResult measure_perplexity(Session& session, const Sample& sample);

// An answer of the baseline.
struct BaselineAnswer {
  const Sample* sample = nullptr;
  std::string prompt;  // the text that was asked
  std::vector<TokenId> tokens;
};

// The samples of a KL task: at most `limit` answers (0: all), drawn evenly over the tasks from `seed`, under the ids of
// the answered samples.  truth: {"tokens": [token]}; `question` is the text that was asked.
TaskData kl_data(std::span<const BaselineAnswer> answers, std::int64_t limit, std::uint64_t seed);

class DistributionWriter;
class DistributionReader;

// Runs the baseline over its own answer and keeps its logits: tokens, nll, kl = 0, all tokens agreeing.
LikelihoodResult record_baseline(Session& session, const Sample& sample, DistributionWriter& baseline);
// Teacher-forced on the baseline's answer with the picture in the prompt. Throws Error when `baseline` lacks the answer.
LikelihoodResult measure_kl(Session& session, const Sample& sample, const DistributionReader& baseline);

}  // namespace halftone

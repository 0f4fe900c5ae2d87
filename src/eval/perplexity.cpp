#include <algorithm>

#include "base/hash.h"
#include "base/timer.h"
#include "eval/likelihood.h"

namespace halftone {

namespace {

// [begin, end) of the tokens after each occurrence of `head` up to and with `stop`, or to the end without one.
Json answer_ranges(const std::vector<TokenId>& ids, const std::vector<TokenId>& head, TokenId stop) {
  Json ranges = Json::array();
  for (auto at = std::search(ids.begin(), ids.end(), head.begin(), head.end()); at != ids.end();) {
    const auto begin = at + std::ssize(head);
    const auto found = std::find(begin, ids.end(), stop);
    const auto end = found == ids.end() ? found : found + 1;
    if (begin < end) ranges.push_back({begin - ids.begin(), end - ids.begin()});
    at = std::search(at + 1, ids.end(), head.begin(), head.end());
  }
  return ranges;
}

void add_sample(TaskData& data, std::string id, std::string text, std::vector<TokenId> ids, Json ranges) {
  data.samples.push_back(
      {std::move(id), {}, std::move(text), {{"ids", std::move(ids)}, {"predicted", std::move(ranges)}}});
}

void add_conversations(TaskData& data, const std::string& text, const Tokenizer& tokenizer) {
  const std::vector<TokenId> head = tokenizer.encode("<|im_start|>assistant\n");
  const std::optional<TokenId> stop = tokenizer.find("<|im_end|>");
  if (!stop) return;
  std::size_t number = 0;
  for (const std::string_view talk : split_conversations(text)) {
    std::vector<TokenId> ids = tokenizer.encode(talk);
    Json ranges = answer_ranges(ids, head, *stop);
    if (ranges.empty()) continue;
    add_sample(data, fmt::format("{}{:04}", kAnswersPrefix, number++), std::string(talk), std::move(ids),
               std::move(ranges));
  }
}

}  // namespace

TaskData perplexity_data(const TextFile& text, const Tokenizer& tokenizer, std::int64_t window) {
  require(window >= 2, "perplexity", "expected a window of two tokens or more, found {}", window);
  TaskData data{"perplexity", {}, {}, {}};
  add_conversations(data, text.text, tokenizer);
  const std::vector<TokenId> ids = tokenizer.encode(text.text);
  std::size_t number = 0;
  for (std::int64_t begin = 0; begin + window <= std::ssize(ids); begin += window) {
    add_sample(data, fmt::format("{}{:04}", kWindowsPrefix, number++), "",
               {ids.begin() + begin, ids.begin() + begin + window}, Json::array({Json::array({1, window})}));
  }
  require(!data.samples.empty(), "perplexity", "expected conversations, or {} tokens or more, found {} tokens", window,
          ids.size());
  data.data_hash = Sha256().update(text.hash).update(Json(ids).dump()).update(std::to_string(window)).hex();
  return data;
}

LikelihoodResult measure_perplexity(Session& session, const Sample& sample) {
  const Timer timer;
  const auto ids = sample.truth.at("ids").get<std::vector<TokenId>>();
  std::vector<char> predicted(ids.size(), 0);
  for (const Json& range : sample.truth.at("predicted")) {
    const auto begin = range.at(0).get<std::size_t>(), end = range.at(1).get<std::size_t>();
    require(begin >= 1 && begin < end && end <= ids.size(), sample.id, "expected a range of tokens, found {}",
            range.dump());
    std::fill(predicted.begin() + static_cast<std::ptrdiff_t>(begin),
              predicted.begin() + static_cast<std::ptrdiff_t>(end), 1);
  }
  LikelihoodResult result;
  result.id = sample.id;
  session.score_text(ids, [&](std::size_t index, std::span<const float> logits) {
    if (predicted.at(index) == 0) return;
    result.nll += log_sum_exp(logits) - double{logits[static_cast<std::size_t>(ids[index])]};
    ++result.tokens;
  });
  result.seconds = timer.seconds();
  return result;
}

}  // namespace halftone

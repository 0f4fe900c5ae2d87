#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/random.h"
#include "base/timer.h"
#include "eval/distributions.h"
#include "eval/likelihood.h"
#include "eval/prompts.h"

namespace halftone {

namespace {

std::string task_of(std::string_view id) { return std::string(id.substr(0, id.find('/'))); }

std::vector<std::size_t> draw_evenly(std::span<const BaselineAnswer> answers, std::int64_t limit, std::uint64_t seed) {
  std::map<std::string, std::vector<std::size_t>> by_task;
  for (std::size_t i = 0; i < answers.size(); ++i) by_task[task_of(answers[i].sample->id)].push_back(i);
  Random random(seed);
  std::vector<std::vector<std::size_t>> drawn;  // of each task, in the order drawn
  for (const auto& [task, members] : by_task) {
    drawn.emplace_back();
    for (const std::int64_t k : random.permutation(std::ssize(members))) {
      drawn.back().push_back(members[static_cast<std::size_t>(k)]);
    }
  }
  std::vector<std::size_t> taken;
  for (std::size_t round = 0; round < answers.size(); ++round) {
    for (const auto& members : drawn) {
      if (round < members.size() && (limit == 0 || std::ssize(taken) < limit)) taken.push_back(members[round]);
    }
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

// Runs score() on the sample's answer; row(index, logits) also gets the token that was to come.
void score_answer(Session& session, const Sample& sample, const std::vector<TokenId>& tokens, LikelihoodResult& result,
                  const LogitsSink& row) {
  const Prompt prompt = make_prompt(sample, sample.question);
  result.id = sample.id;
  result.picture = picture_hash(prompt);
  session.score(prompt, tokens, [&](std::size_t index, std::span<const float> logits) {
    result.nll += log_sum_exp(logits) - double{logits[static_cast<std::size_t>(tokens.at(index))]};
    ++result.tokens;
    row(index, logits);
  });
  require(result.tokens == std::ssize(tokens), sample.id, "expected logits for {} tokens, found {}", tokens.size(),
          result.tokens);
}

}  // namespace

TaskData kl_data(std::span<const BaselineAnswer> answers, std::int64_t limit, std::uint64_t seed) {
  require(limit >= 0, "kl", "expected a number of samples, found {}", limit);
  TaskData data{"kl", {}, {}, {}};
  Sha256 hash;
  for (const std::size_t i : draw_evenly(answers, limit, seed)) {
    const BaselineAnswer& answer = answers[i];
    if (answer.tokens.empty()) continue;
    data.samples.push_back({answer.sample->id, answer.sample->pictures, answer.prompt, {{"tokens", answer.tokens}}});
    hash.update(answer.sample->id).update("\n").update(answer.prompt).update(Json(answer.tokens).dump());
  }
  require(!data.samples.empty(), "kl", "expected answers of the baseline, found none");
  require_unique_ids(data);
  data.data_hash = hash.hex();
  return data;
}

LikelihoodResult record_baseline(Session& session, const Sample& sample, DistributionWriter& baseline) {
  const Timer timer;
  const auto tokens = sample.truth.at("tokens").get<std::vector<TokenId>>();
  LikelihoodResult result;
  std::vector<float> rows;
  score_answer(session, sample, tokens, result, [&](std::size_t, std::span<const float> logits) {
    rows.insert(rows.end(), logits.begin(), logits.end());
  });
  if (!baseline.contains(sample.id)) baseline.append(sample.id, tokens, rows);
  result.kl = 0;
  result.top1_agree = result.tokens;
  result.seconds = timer.seconds();
  return result;
}

LikelihoodResult measure_kl(Session& session, const Sample& sample, const DistributionReader& baseline) {
  const Timer timer;
  const auto tokens = sample.truth.at("tokens").get<std::vector<TokenId>>();
  const RecordedAnswer recorded = baseline.find(sample.id);
  require(std::ranges::equal(recorded.tokens, tokens), sample.id,
          "expected the baseline's predictions for this answer, found those for another");
  LikelihoodResult result;
  double kl = 0;
  score_answer(session, sample, tokens, result, [&](std::size_t index, std::span<const float> logits) {
    const std::span<const float> expected = recorded.row(index);
    kl += kl_divergence(expected, logits);
    result.top1_agree += argmax(expected) == argmax(logits) ? 1 : 0;
  });
  result.kl = kl;
  result.seconds = timer.seconds();
  return result;
}

}  // namespace halftone

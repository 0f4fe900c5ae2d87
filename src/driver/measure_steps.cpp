#include <malloc.h>

#include <algorithm>

#include "base/hash.h"
#include "bench/workload.h"
#include "driver/machine.h"
#include "driver/study_runner.h"
#include "eval/answer.h"
#include "eval/distributions.h"
#include "eval/likelihood.h"
#include "ops/numerics_name.h"

namespace halftone {
namespace {

LikelihoodRow to_row(const std::string& configuration, const std::string& task, const LikelihoodResult& result) {
  return {configuration, task,      result.id,         result.picture, result.tokens,
          result.nll,    result.kl, result.top1_agree, result.seconds};
}

Json stages_of(const BenchRepeat& repeat) {
  Json json = {{"per_token", repeat.per_token()},
               {"prompt_tokens", repeat.prompt_tokens},
               {"visual_tokens", repeat.visual_tokens},
               {"output_tokens", repeat.output_tokens}};
  for (const Stage& stage : kStages) json[std::string(stage.name)] = repeat.times.*stage.seconds;
  return json;
}

}  // namespace

EngineOptions StudyRunner::engine_options() const {
  EngineOptions options;
  options.numerics = find_numerics(plan_.numerics).value();
  options.budget = plan_.pixels;
  options.picture_cache = pictures_;
  options.threads = options_.threads;
  options.device = on_gpu() ? Device::kCuda : Device::kCpu;
  options.device_sequences = 1;
  return options;
}

template <typename Result>
void StudyRunner::run_all(const std::vector<const Sample*>& samples, const std::shared_ptr<const Engine>& engine,
                          std::int64_t cost, const std::function<Result(Session&, const Sample&)>& measure,
                          const std::function<void(const Result&)>& sink) {
  RunOptions options;
  // a GPU answers one sample at a time, all threads with it: each session would take a cache and a workspace of its own
  options.workers = on_gpu() ? 1 : options_.threads;
  options.stop = options_.stop;
  options.progress = [this, cost](std::string_view, std::int64_t, std::int64_t) { advance(cost); };
  const SessionFactory sessions = [&] { return Session::create(engine, on_gpu() ? options_.threads : 1); };
  if (!run_samples<Result>(sessions, samples, measure, sink, options)) throw Stopped{};
}

void StudyRunner::answer_task(const std::string& configuration, const TaskInput& input,
                              const std::shared_ptr<const Engine>& engine) {
  const auto finished = store_.finished_samples(configuration, input.row.name);
  const auto missing = samples_to_do(input.data, [&](const std::string& id) { return finished.contains(id); });
  run_all<AnswerResult>(
      missing, engine, cost::kAnswer,
      [&](Session& session, const Sample& sample) { return answer_sample(session, *input.task, input.rule, sample); },
      [&](const AnswerResult& result) {
        Json score = result.verdict.score;
        score["smallest_gap"] = result.smallest_gap;
        score["stopped"] = result.stopped;
        store_.add_sample({configuration, input.row.name, result.id, result.picture, result.answer, result.tokens,
                           result.verdict.value, result.verdict.groups, std::move(score), result.seconds});
      });
}

void StudyRunner::score_task(const std::string& configuration, const TaskInput& input) {
  if (!store_.scores(configuration, input.row.name).empty()) return;
  std::vector<StoredVerdict> verdicts;
  for (SampleRow& row : store_.samples(configuration, input.row.name)) {
    verdicts.push_back({row.id, {row.value, std::move(row.groups), std::move(row.score)}});
  }
  std::vector<ScoreRow> rows;
  for (const Figure& figure : aggregate(*input.task, input.data, verdicts)) {
    rows.push_back({figure.group, figure.metric, figure.value, figure.samples});
  }
  store_.set_scores(configuration, input.row.name, rows);
}

const TaskData& StudyRunner::kl_samples() {
  if (kl_samples_) return *kl_samples_;
  std::vector<BaselineAnswer> answers;
  for (const TaskInput& input : inputs_.tasks) {
    std::map<std::string, std::vector<TokenId>> tokens;
    for (SampleRow& row : store_.samples(plan_.baseline, input.row.name)) tokens[row.id] = std::move(row.tokens);
    for (const Sample& sample : input.data.samples) {
      answers.push_back({&sample, input.rule.apply(sample.question), tokens.at(sample.id)});
    }
  }
  kl_samples_ = kl_data(answers, plan_.kl->samples, plan_.seed);
  return *kl_samples_;
}

void StudyRunner::record_baseline(const std::shared_ptr<const Engine>& engine) {
  const std::string& task = inputs_.kl->name;
  const auto finished = store_.finished_likelihoods(plan_.baseline, task);
  DistributionWriter writer(distributions(), identity_, engine->info().vocabulary);
  const auto is_done = [&](const std::string& id) { return writer.contains(id) && finished.contains(id); };
  run_all<LikelihoodResult>(
      samples_to_do(kl_samples(), is_done), engine, cost::kForced,
      [&](Session& session, const Sample& sample) { return halftone::record_baseline(session, sample, writer); },
      [&](const LikelihoodResult& result) {
        if (!finished.contains(result.id)) store_.add_likelihood(to_row(plan_.baseline, task, result));
      });
}

void StudyRunner::measure_divergence(const std::string& configuration, const std::shared_ptr<const Engine>& engine) {
  if (is_baseline(configuration)) return record_baseline(engine);
  const std::string& task = inputs_.kl->name;
  const auto finished = store_.finished_likelihoods(configuration, task);
  const DistributionReader baseline(distributions(), identity_);
  run_all<LikelihoodResult>(
      samples_to_do(kl_samples(), [&](const std::string& id) { return finished.contains(id); }), engine, cost::kForced,
      [&](Session& session, const Sample& sample) { return measure_kl(session, sample, baseline); },
      [&](const LikelihoodResult& result) { store_.add_likelihood(to_row(configuration, task, result)); });
}

void StudyRunner::measure_text(const std::string& configuration, const PerplexityInput& input,
                               const std::shared_ptr<const Engine>& engine) {
  const auto finished = store_.finished_likelihoods(configuration, input.row.name);
  run_all<LikelihoodResult>(
      samples_to_do(input.data, [&](const std::string& id) { return finished.contains(id); }), engine, cost::kText,
      [](Session& session, const Sample& sample) { return measure_perplexity(session, sample); },
      [&](const LikelihoodResult& result) { store_.add_likelihood(to_row(configuration, input.row.name, result)); });
}

void StudyRunner::measure_speed(const std::string& configuration, const std::filesystem::path& folder) {
  if (missing_speed_cost(configuration) == 0) return;
  malloc_trim(0);  // what the tasks left behind is not this configuration's
  const std::int64_t idle = resident_bytes();
  const bool has_peak = reset_peak_resident();
  EngineOptions options = engine_options();
  options.picture_cache = nullptr;
  options.reuse_prefix = false;
  const auto engine = Engine::load(folder, options);
  SessionMemory memory;
  const BenchOptions bench{plan_.bench->warmup, plan_.bench->repeats, plan_.bench->seconds, 1};
  for (const Workload& workload : inputs_.workloads) {
    if (speed_is_done(configuration, workload)) continue;
    auto done = static_cast<std::int64_t>(store_.timings(configuration, workload.name).size());
    const auto sink = [&](const BenchRepeat& repeat) {
      store_.add_timing({configuration, workload.name, repeat.index, stages_of(repeat)});
      memory = larger_of(memory, repeat.memory);
      ++done;
      advance(cost::kRepeat);
    };
    if (!run_workload(engine, workload, bench, options_.threads, done, sink, options_.stop, {})) throw Stopped{};
    if (done < bench.repeats) {
      store_.set_note(
          budget_note(configuration, workload.name),
          fmt::format("{} of {} repeats within the time budget of {} s", done, bench.repeats, bench.budget_seconds));
    }
  }
  if (memory.workspace > 0) store_.set_memory({configuration, "workspace", memory.workspace, true});
  // on the CPU it grows with the prompts, and a row of its own says how much a token takes
  if (on_gpu() && memory.kv > 0) store_.set_memory({configuration, "KV cache", memory.kv, true});
  if (has_peak) {
    store_.set_memory(
        {configuration, "peak above idle", std::max<std::int64_t>(0, peak_resident_bytes() - idle), true});
  }
}

}  // namespace halftone

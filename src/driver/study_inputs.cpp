#include "driver/study_inputs.h"

#include <algorithm>

#include "base/hash.h"
#include "driver/machine.h"
#include "eval/likelihood.h"
#include "hf/checkpoint.h"
#include "quant/recipe.h"
#include "text/tokenizer.h"

namespace halftone {
namespace {

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : " ") + line;
  return text;
}

std::vector<std::string> names(std::span<const std::string_view> all) { return {all.begin(), all.end()}; }

// Of exactly the samples that are asked: the files' hash, their ids and their pictures' contents.
std::string hash_of_samples(const TaskData& data) {
  Sha256 hash;
  hash.update(data.data_hash);
  for (const Sample& sample : data.samples) hash.update(sample.id + "\n");
  return hash.update(hash_pictures(data)).hex();
}

TaskInput read_task(const TaskPlan& plan, std::uint64_t seed) {
  TaskInput input;
  input.task = &find_task(plan.name);
  input.rule = prompt_rule(plan.prompts, plan.name);
  input.data = take_samples(input.task->read(plan.data), plan.limit, seed);
  input.row = {.name = plan.name,
               .title = std::string(input.task->title),
               .kind = TaskKind::kAccuracy,
               .data_hash = hash_of_samples(input.data),
               .prompts = plan.prompts,
               .prompt_hash = input.rule.hash(),
               .samples = static_cast<std::int64_t>(input.data.samples.size()),
               .max_new_tokens = input.rule.max_new_tokens,
               .metrics = names(input.task->summary.metrics),
               .headline = names(input.task->summary.headline),
               .part_metric = std::string(input.task->summary.part_metric),
               .part_note = std::string(input.task->summary.part_note),
               .note = join_lines(input.data.notes)};
  return input;
}

// The samples of `all` whose ids begin with `prefix`, at most `limit`, as a task of its own.
std::optional<PerplexityInput> select(const TaskData& all, std::string_view prefix, const PerplexityPlan& plan,
                                      TaskRow row) {
  PerplexityInput input{{row.name, {}, all.data_hash, {}}, std::move(row)};
  for (const Sample& sample : all.samples) {
    const auto count = static_cast<std::int64_t>(input.data.samples.size());
    if (sample.id.starts_with(prefix) && (plan.limit == 0 || count < plan.limit)) input.data.samples.push_back(sample);
  }
  if (input.data.samples.empty()) return std::nullopt;
  input.row.kind = TaskKind::kPerplexity;
  input.row.prompts = "none";
  input.row.samples = static_cast<std::int64_t>(input.data.samples.size());
  input.row.data_hash = hash_of_samples(input.data);
  return input;
}

void read_perplexity(const StudyPlan& plan, StudyInputs& inputs) {
  const TextFile text = read_text_file(plan.perplexity->data);
  TaskData all = perplexity_data(text, *Tokenizer::load(plan.model), plan.perplexity->window);
  all.data_hash = text.hash;
  TaskRow answers, windows;
  answers.name = "perplexity_answers";
  answers.title = "Perplexity of answers";
  answers.note = "One conversation at a time, over the tokens of its answers, without pictures.";
  windows.name = "perplexity_text";
  windows.title = "Perplexity of every token";
  windows.note = fmt::format(
      "Windows of {} tokens that do not overlap, every token but the first of a window, the tail "
      "dropped.",
      plan.perplexity->window);
  if (auto input = select(all, kAnswersPrefix, *plan.perplexity, answers)) {
    inputs.perplexity.push_back(std::move(*input));
  }
  if (auto input = select(all, kWindowsPrefix, *plan.perplexity, windows)) {
    inputs.perplexity.push_back(std::move(*input));
  }
}

TaskRow kl_row(const StudyPlan& plan, const StudyInputs& inputs) {
  std::int64_t answers = 0;
  Sha256 data, prompts;
  for (const TaskInput& task : inputs.tasks) {
    answers += task.row.samples;
    data.update(task.row.data_hash);
    prompts.update(task.row.prompt_hash);
  }
  const std::int64_t samples = plan.kl->samples > 0 ? std::min(plan.kl->samples, answers) : answers;
  return {.name = "kl",
          .title = "KL divergence",
          .kind = TaskKind::kKl,
          .data_hash = data.hex(),
          .prompts = inputs.tasks.front().row.prompts,
          .prompt_hash = prompts.hex(),
          .samples = samples,
          .max_new_tokens = 0,
          .metrics = {},
          .headline = {},
          .part_metric = "",
          .part_note = "",
          .note =
              "KL(baseline || configuration) per token of the baseline's answers, teacher-forced, with the picture in "
              "the prompt. The answers are drawn evenly over the tasks."};
}

Workload read_workload(const WorkloadPlan& plan, std::int64_t output_tokens, std::uint64_t seed) {
  Workload workload = plan.data.empty() ? synthetic_workload(plan.width, plan.height, plan.prompts, seed, output_tokens)
                                        : llava_bench_workload(plan.data, plan.prompts, output_tokens);
  workload.name = plan.name;
  return workload;
}

Json bench_settings(const StudyPlan& plan, const StudyInputs& inputs) {
  const BenchPlan& bench = *plan.bench;
  Json settings = {{"repeats", bench.repeats},
                   {"warmup", bench.warmup},
                   {"seconds", bench.seconds},
                   {"output_tokens", bench.output_tokens},
                   {"workloads", Json::object()}};
  for (const Workload& workload : inputs.workloads) {
    Sha256 pictures;
    for (const Prompt& prompt : workload.prompts) {
      for (const auto& picture : prompt.pictures) pictures.update(picture->hash);
    }
    settings["workloads"][workload.name] = {{"prompts", workload.prompts.size()}, {"pictures_hash", pictures.hex()}};
  }
  return settings;
}

Json settings_of(const StudyPlan& plan, const StudyInputs& inputs, const Checkpoint& checkpoint) {
  Json settings = {{"model", plan.model.filename().string()},
                   {"weights_hash", checkpoint.content_hash()},
                   {"files_hash", checkpoint.files_hash()},
                   {"seed", plan.seed},
                   {"device", plan.device},
                   {"numerics", plan.numerics},
                   {"decoding", "greedy"},
                   {"baseline", plan.baseline},
                   {"configurations", plan.configurations},
                   {"tasks", Json::object()},
                   {"recipe_hashes", Json::object()}};
  if (plan.pixels) settings["pixels"] = {{"min", plan.pixels->min_pixels}, {"max", plan.pixels->max_pixels}};
  for (const std::string& name : plan.configurations) {
    settings["recipe_hashes"][name] = sha256_hex(load_recipe(name, plan.folder).text);
  }
  const auto add = [&](const TaskRow& row) {
    settings["tasks"][row.name] = {{"data_hash", row.data_hash},
                                   {"prompts", row.prompts},
                                   {"prompt_hash", row.prompt_hash},
                                   {"samples", row.samples}};
  };
  for (const TaskInput& task : inputs.tasks) add(task.row);
  for (const PerplexityInput& input : inputs.perplexity) add(input.row);
  if (inputs.kl) add(*inputs.kl);
  if (plan.calibration) {
    const CalibrationPlan& c = *plan.calibration;
    const CalibrationData data = read_calibration(c.data, {c.samples, plan.seed});
    settings["calibration"] = {{"source", data.source},
                               {"data_hash", data.data_hash},
                               {"samples", data.samples.size()},
                               {"max_tokens", c.tokens}};
  }
  if (plan.bench) settings["bench"] = bench_settings(plan, inputs);
  return settings;
}

}  // namespace

StudyInputs read_study_inputs(const StudyPlan& plan, const Progress& progress) {
  const auto total = static_cast<std::int64_t>(plan.tasks.size()) + 2;
  std::int64_t done = 0;
  const auto tell = [&] {
    if (progress) progress("reading", done++, total);
  };
  StudyInputs inputs;
  tell();
  const Checkpoint checkpoint = Checkpoint::open(plan.model);
  for (const TaskPlan& task : plan.tasks) {
    tell();
    inputs.tasks.push_back(read_task(task, plan.seed));
  }
  tell();
  if (plan.perplexity) read_perplexity(plan, inputs);
  if (plan.kl) inputs.kl = kl_row(plan, inputs);
  if (plan.bench) {
    for (const WorkloadPlan& w : plan.bench->workloads) {
      inputs.workloads.push_back(read_workload(w, plan.bench->output_tokens, plan.seed));
    }
  }
  inputs.info = {plan.name,         program_version(), program_hash(), utc_now(), settings_of(plan, inputs, checkpoint),
                 describe_machine()};
  tell();
  return inputs;
}

}  // namespace halftone

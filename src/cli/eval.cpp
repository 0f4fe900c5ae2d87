// halftone eval: accuracy of one checkpoint on tasks in their official file formats.

#include <fmt/format.h>

#include <iostream>

#include "base/usage_error.h"
#include "cli/command.h"
#include "cli/engine_options.h"
#include "driver/evaluate.h"
#include "eval/prompts.h"
#include "eval/task.h"

namespace halftone::cli {
namespace {

struct EvalOptions {
  EngineFlags engine;
  std::vector<std::string> tasks;  // name=folder
  EvaluateOptions evaluate;
  bool json = false;
};

EvaluateTask parse_task(const std::string& text) {
  const auto equals = text.find('=');
  require_usage(equals != std::string::npos && equals > 0, "--task", "expected NAME=FOLDER, found '{}'", text);
  EvaluateTask task{text.substr(0, equals), text.substr(equals + 1)};
  find_task(task.name);
  require_usage(std::filesystem::exists(task.data), "--task", "{}: no such folder", task.data.string());
  return task;
}

void print_task(const TaskResult& task) {
  std::cout << fmt::format("{}: {} samples\n", task.task, task.samples);
  for (const Figure& figure : task.figures) {
    std::string interval;
    if (figure.interval) interval = fmt::format("   [{:.1f}, {:.1f}]", figure.interval->low, figure.interval->high);
    std::cout << fmt::format("  {:<28} {:<18} {:>7.1f} {:>7}{}\n", figure.group, figure.metric, figure.value,
                             figure.samples, interval);
  }
  for (const std::string& note : task.notes) std::cout << fmt::format("  note: {}\n", note);
}

Json to_json(const EngineInfo& info, const std::string& prompts, const EvaluateResult& result) {
  Json json;
  json["finished"] = result.finished;
  json["conditions"] = halftone::to_json(info);
  json["conditions"]["prompts"] = prompts;
  for (const TaskResult& task : result.tasks) {
    Json& row = json["tasks"][task.task];
    row = {{"samples", task.samples},
           {"data", task.data_hash},
           {"prompts", task.prompt_hash},
           {"notes", task.notes},
           {"figures", Json::array()}};
    for (const Figure& figure : task.figures) row["figures"].push_back(halftone::to_json(figure));
  }
  return json;
}

int run_eval(EvalOptions& options, const Environment& environment) {
  for (const std::string& task : options.tasks) options.evaluate.tasks.push_back(parse_task(task));
  EngineOptions engine_options = options.engine.options();
  engine_options.picture_cache = make_picture_cache();
  const auto engine = Engine::load(options.engine.model, engine_options);
  // a GPU answers one sample at a time: each session would take a cache and a workspace of its own
  options.evaluate.threads = engine_options.device == Device::kCuda ? 1 : options.engine.threads;
  options.evaluate.stop = environment.stop;
  options.evaluate.progress = environment.progress;
  const EvaluateResult result = evaluate(engine, options.evaluate);
  if (options.json) {
    print_json(to_json(engine->info(), options.evaluate.prompts, result));
  } else {
    for (const TaskResult& task : result.tasks) print_task(task);
  }
  return result.finished ? kDone : kInterrupted;
}

}  // namespace

Command declare_eval(CLI::App& parent) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* app =
      parent.add_subcommand("eval", "Accuracy on VQAv2, POPE, MME, GQA, grounding, by the official scorers");
  options->engine.declare(*app);
  std::vector<std::string> presets;
  for (const auto preset : kPromptPresets) presets.emplace_back(preset);
  app->add_option("-t,--task", options->tasks, "NAME=FOLDER; may be given several times")->required();
  app->add_option("--prompts", options->evaluate.prompts, "Prompt preset")
      ->check(CLI::IsMember(presets))
      ->capture_default_str();
  app->add_option("--limit", options->evaluate.limit, "Samples of each task; 0 for all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--seed", options->evaluate.seed, "Seed of the draw of samples")->capture_default_str();
  app->add_option("--samples", options->evaluate.samples,
                  "File of answers, one JSON line each; a second run goes on with it");
  app->add_flag("--json", options->json, "Result as JSON");
  return {app, [options](const Environment& environment) { return run_eval(*options, environment); }};
}

}  // namespace halftone::cli

#include "driver/evaluate.h"

#include "api/engine_options.h"

namespace halftone::api {

std::vector<Score> evaluate(const std::filesystem::path& checkpoint,
                            const std::map<std::string, std::filesystem::path>& tasks, const EvaluateOptions& options) {
  EngineOptions engine = engine_options(options.load);
  engine.picture_cache = make_picture_cache();
  halftone::EvaluateOptions run;
  for (const auto& [name, folder] : tasks) run.tasks.push_back({name, folder});
  run.prompts = options.prompts;
  run.limit = options.limit;
  run.seed = options.seed;
  run.threads = options.load.threads;
  run.samples = options.answers;
  run.progress = options.on_progress;
  std::vector<Score> scores;
  for (const TaskResult& task : halftone::evaluate(Engine::load(checkpoint, engine), run).tasks) {
    for (const Figure& figure : task.figures) {
      Score score{task.task, figure.group, figure.metric, figure.value, figure.samples, {}, {}};
      if (figure.interval) {
        score.low = figure.interval->low;
        score.high = figure.interval->high;
      }
      scores.push_back(std::move(score));
    }
  }
  return scores;
}

}  // namespace halftone::api

#include "driver/evaluate.h"

#include <set>

#include "driver/answer_file.h"
#include "eval/answer.h"
#include "eval/runner.h"

namespace halftone {
namespace {

struct Asked {
  const Task* task = nullptr;
  PromptRule rule;
  TaskData data;
  std::vector<StoredVerdict> verdicts;
};

std::vector<Asked> read_tasks(const EvaluateOptions& options) {
  std::vector<Asked> tasks;
  for (const EvaluateTask& wanted : options.tasks) {
    const Task& task = find_task(wanted.name);
    tasks.push_back({&task,
                     prompt_rule(options.prompts, wanted.name),
                     take_samples(task.read(wanted.data), options.limit, options.seed),
                     {}});
  }
  return tasks;
}

// What must be equal for answers to belong together.
Json conditions_of(const EngineInfo& info, const std::vector<Asked>& tasks) {
  Json json = to_json(info);
  json.erase("checkpoint");  // a folder may be moved
  for (const Asked& asked : tasks) {
    json["tasks"][std::string(asked.task->name)] = {{"data", asked.data.data_hash}, {"prompts", asked.rule.hash()}};
  }
  return json;
}

void take_found(const std::vector<StoredVerdict>& found, std::vector<Asked>& tasks) {
  for (const StoredVerdict& verdict : found) {
    for (Asked& asked : tasks) {
      if (verdict.id.starts_with(std::string(asked.task->name) + "/")) asked.verdicts.push_back(verdict);
    }
  }
}

bool answer(const std::shared_ptr<const Engine>& engine, const EvaluateOptions& options, Asked& asked,
            AnswerFile& file) {
  std::set<std::string> done;
  for (const StoredVerdict& verdict : asked.verdicts) done.insert(verdict.id);
  RunOptions run{options.threads, options.stop, options.progress, std::string(asked.task->title)};
  return run_samples<AnswerResult>(
      [&] { return Session::create(engine, 1); },
      samples_to_do(asked.data, [&](const std::string& id) { return done.contains(id); }),
      [&](Session& session, const Sample& sample) { return answer_sample(session, *asked.task, asked.rule, sample); },
      [&](const AnswerResult& result) {
        file.add(result);
        asked.verdicts.push_back({result.id, result.verdict});
      },
      run);
}

}  // namespace

EvaluateResult evaluate(const std::shared_ptr<const Engine>& engine, const EvaluateOptions& options) {
  std::vector<Asked> tasks = read_tasks(options);
  AnswerFile file(options.samples, conditions_of(engine->info(), tasks));
  take_found(file.found(), tasks);
  EvaluateResult result;
  for (Asked& asked : tasks) {
    result.finished = answer(engine, options, asked, file);
    result.tasks.push_back({std::string(asked.task->name), std::ssize(asked.verdicts), asked.data.data_hash,
                            asked.rule.hash(), aggregate(*asked.task, asked.data, asked.verdicts), asked.data.notes});
    if (!result.finished) break;
  }
  return result;
}

}  // namespace halftone

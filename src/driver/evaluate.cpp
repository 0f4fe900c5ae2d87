#include "driver/evaluate.h"

#include <fstream>
#include <set>

#include "base/file.h"
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
  Json json = {{"weights", info.weights_hash},
               {"files", info.files_hash},
               {"numerics", info.numerics},
               {"kv", info.kv_format},
               {"min_pixels", info.budget.min_pixels},
               {"max_pixels", info.budget.max_pixels}};
  for (const Asked& asked : tasks) {
    json["tasks"][std::string(asked.task->name)] = {{"data", asked.data.data_hash}, {"prompts", asked.rule.hash()}};
  }
  return json;
}

Json to_line(const AnswerResult& result) {
  return {{"id", result.id},
          {"answer", result.answer},
          {"tokens", result.tokens},
          {"picture", result.picture},
          {"value", result.verdict.value},
          {"groups", result.verdict.groups},
          {"score", result.verdict.score},
          {"gap", result.smallest_gap},
          {"seconds", result.seconds}};
}

// The file of answers: found ones go to their tasks, new ones are appended.
class AnswerFile {
 public:
  AnswerFile(const std::filesystem::path& path, const Json& conditions, std::vector<Asked>& tasks) : path_(path) {
    if (path.empty()) return;
    std::uint64_t valid = 0;
    if (std::filesystem::exists(path)) valid = read(conditions, tasks);
    if (valid > 0) std::filesystem::resize_file(path, valid);  // drops a line that a crash cut off
    out_.open(path, valid > 0 ? std::ios::app : std::ios::trunc);
    if (valid == 0) write({{"conditions", conditions}});
  }

  void write(const Json& line) {
    if (path_.empty()) return;
    out_ << line.dump() << '\n' << std::flush;
    require(out_.good(), path_.string(), "cannot write");
  }

 private:
  // Returns where the last whole line ends.
  std::uint64_t read(const Json& conditions, std::vector<Asked>& tasks) {
    const std::string text = read_file(path_);
    std::uint64_t begin = 0, number = 0;
    for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
      const std::string source = fmt::format("{}, line {}", path_.string(), ++number);
      const Json line = parse_json(std::string_view(text).substr(begin, end - begin), source);
      if (number == 1) {
        const auto found = get_field<Json>(line, "conditions", source);
        require(found == conditions, source, "expected the conditions {}, found {}", conditions.dump(), found.dump());
      } else {
        take(line, source, tasks);
      }
      begin = end + 1;
    }
    return begin;
  }

  static void take(const Json& line, const std::string& source, std::vector<Asked>& tasks) {
    const auto id = get_field<std::string>(line, "id", source);
    for (Asked& asked : tasks) {
      if (!id.starts_with(std::string(asked.task->name) + "/")) continue;
      asked.verdicts.push_back(
          {id,
           {get_field<double>(line, "value", source), get_field<std::vector<std::string>>(line, "groups", source),
            get_field<Json>(line, "score", source)}});
    }
  }

  std::filesystem::path path_;
  std::ofstream out_;
};

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
        file.write(to_line(result));
        asked.verdicts.push_back({result.id, result.verdict});
      },
      run);
}

}  // namespace

EvaluateResult evaluate(const std::shared_ptr<const Engine>& engine, const EvaluateOptions& options) {
  std::vector<Asked> tasks = read_tasks(options);
  AnswerFile file(options.samples, conditions_of(engine->info(), tasks), tasks);
  EvaluateResult result;
  for (Asked& asked : tasks) {
    result.finished = answer(engine, options, asked, file);
    result.tasks.push_back({std::string(asked.task->name), static_cast<std::int64_t>(asked.verdicts.size()),
                            asked.data.data_hash, asked.rule.hash(),
                            aggregate(*asked.task, asked.data, asked.verdicts)});
    if (!result.finished) break;
  }
  return result;
}

}  // namespace halftone

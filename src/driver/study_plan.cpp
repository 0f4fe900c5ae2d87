#include "driver/study_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/fields.h"
#include "base/file.h"
#include "driver/quantize_folder.h"
#include "eval/prompts.h"
#include "eval/task.h"
#include "ops/numerics_name.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

constexpr double kLongestBench = 1e6;  // seconds

fs::path existing_path(const Fields& fields, std::string_view key, const fs::path& folder) {
  const fs::path path = (folder / fields.text(key)).lexically_normal();
  require(fs::exists(path), fields.source(), "field '{}': '{}' does not exist", fields.place(key), path.string());
  return path;
}

class PlanReader {
 public:
  PlanReader(const Json& json, const fs::path& folder, std::string_view source)
      : root_(json, std::string(source)), folder_(folder), source_(source) {
    root_.allow_only({"name", "model", "seed", "device", "numerics", "prompts", "pixels", "baseline", "configurations",
                      "tasks", "kl", "perplexity", "calibration", "bench", "note"});
  }

  StudyPlan read() {
    plan_.name = root_.text("name");
    plan_.folder = folder_;
    plan_.note = root_.text_or("note", "");
    plan_.model = existing_path(root_, "model", folder_);
    plan_.seed = static_cast<std::uint64_t>(root_.count_or("seed", 0, 0));
    read_device();
    read_pixels();
    read_tasks();
    read_likelihoods();
    if (root_.has("calibration")) {
      const Fields s = root_.object("calibration");
      s.allow_only({"data", "samples", "tokens"});
      CalibrationPlan calibration{existing_path(s, "data", folder_)};
      calibration.samples = s.count_or("samples", calibration.samples, 1);
      calibration.tokens = s.count_or("tokens", calibration.tokens, 1);
      plan_.calibration = std::move(calibration);
    }
    read_configurations();
    if (root_.has("bench")) read_bench();
    return std::move(plan_);
  }

 private:
  void read_device() {
    plan_.device = root_.text_or("device", "cpu");
    require(plan_.device == "cpu" || plan_.device == "cuda", source_,
            "field 'device': expected cpu or cuda, found '{}'", plan_.device);
    plan_.numerics = root_.text_or("numerics", plan_.device == "cuda" ? "bf16" : "f32");
    require(find_numerics(plan_.numerics).has_value(), source_, "field 'numerics': expected f32 or bf16, found '{}'",
            plan_.numerics);
    require(plan_.device == "cpu" || plan_.numerics == "bf16", source_,
            "field 'numerics': expected bf16, which is what a GPU computes with, found '{}'", plan_.numerics);
  }

  void read_pixels() {
    if (!root_.has("pixels")) return;
    const Fields s = root_.object("pixels");
    s.allow_only({"min", "max"});
    PixelBudget budget;
    budget.min_pixels = s.count_or("min", budget.min_pixels, 1);
    budget.max_pixels = s.count_or("max", budget.max_pixels, budget.min_pixels);
    plan_.pixels = budget;
  }

  void read_tasks() {
    const std::string preset = root_.text_or("prompts", "suite");
    if (!root_.has("tasks")) return;
    require(root_.at("tasks").is_object(), source_,
            "field 'tasks': expected a mapping of tasks to their data, found {}", root_.at("tasks").type_name());
    for (const auto& entry : root_.at("tasks").items()) {
      const std::string& name = entry.key();
      const Json& value = entry.value();
      check([&] { find_task(name); }, "tasks");
      TaskPlan task{name, {}, 0, preset};
      const Json object = value.is_string() ? Json{{"data", value}} : value;
      const Fields s(object, source_, "tasks." + name);
      s.allow_only({"data", "limit", "prompts"});
      task.data = existing_path(s, "data", folder_);
      task.limit = s.count_or("limit", 0, 0);
      task.prompts = s.text_or("prompts", preset);
      check([&] { prompt_rule(task.prompts, name); }, s.place("prompts"));
      plan_.tasks.push_back(std::move(task));
    }
    // The file's order is lost in a mapping; the table of tasks has one that makes sense.
    const auto rank = [](const TaskPlan& task) {
      const auto tasks = all_tasks();
      return std::find_if(tasks.begin(), tasks.end(), [&](const Task& t) { return t.name == task.name; }) -
             tasks.begin();
    };
    std::sort(plan_.tasks.begin(), plan_.tasks.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  }

  void read_likelihoods() {
    if (root_.has("kl")) {
      const Fields s = root_.object("kl");
      s.allow_only({"samples"});
      plan_.kl = {s.count_or("samples", KlPlan{}.samples, 0)};
      require(!plan_.tasks.empty(), source_, "field 'kl': expected tasks whose answers it runs over, found none");
    }
    if (root_.has("perplexity")) {
      const Fields s = root_.object("perplexity");
      s.allow_only({"data", "window", "limit"});
      PerplexityPlan perplexity{existing_path(s, "data", folder_)};
      perplexity.window = s.count_or("window", perplexity.window, 2);
      perplexity.limit = s.count_or("limit", perplexity.limit, 0);
      plan_.perplexity = std::move(perplexity);
    }
  }

  void read_configurations() {
    const Json& list = root_.at("configurations");
    require(list.is_array() && !list.empty(), source_, "field 'configurations': expected a list of names, found {}",
            list.dump());
    std::set<std::string> seen;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string place = fmt::format("configurations[{}]", i);
      require(list[i].is_string(), source_, "field '{}': expected a name, found {}", place, list[i].dump());
      const std::string name = list[i].get<std::string>();
      Recipe recipe;
      check([&] { recipe = load_recipe(name, folder_); }, place);
      require(seen.insert(name).second, source_, "field '{}': '{}' is there twice", place, name);
      require(!is_calibrated(recipe) || plan_.calibration, source_, "field 'calibration': missing, but '{}' needs it",
              name);
      plan_.configurations.push_back(name);
    }
    plan_.baseline = root_.text_or("baseline", plan_.configurations.front());
    require(plan_.baseline == plan_.configurations.front(), source_,
            "field 'baseline': expected the first configuration, '{}', found '{}'", plan_.configurations.front(),
            plan_.baseline);
  }

  void read_bench() {
    const Fields s = root_.object("bench");
    s.allow_only({"repeats", "warmup", "seconds", "output_tokens", "workloads"});
    BenchPlan bench;
    bench.repeats = s.count_or("repeats", bench.repeats, 1);
    bench.warmup = s.count_or("warmup", bench.warmup, 0);
    bench.seconds = s.number_or("seconds", bench.seconds, 0, kLongestBench);
    bench.output_tokens = s.count_or("output_tokens", bench.output_tokens, 2);
    const Json& workloads = s.at("workloads");
    require(workloads.is_object(), source_, "field 'bench.workloads': expected a mapping, found {}",
            workloads.type_name());
    for (const auto& [name, value] : workloads.items()) {
      const Fields w(value, source_, "bench.workloads." + name);
      w.allow_only({"data", "width", "height", "prompts"});
      WorkloadPlan workload{name, {}, 0, 0, w.count_or("prompts", 0, 0)};
      if (w.has("data")) {
        workload.data = existing_path(w, "data", folder_);
      } else {
        require(w.has("width") && w.has("height"), source_, "field '{}': expected data, or width and height",
                w.place());
        workload.width = w.count_or("width", 0, 28);
        workload.height = w.count_or("height", 0, 28);
        workload.prompts = std::max<std::int64_t>(workload.prompts, 1);
      }
      bench.workloads.push_back(std::move(workload));
    }
    plan_.bench = std::move(bench);
  }

  // What another folder refuses is an error of this file.
  template <typename Function>
  void check(const Function& function, const std::string& place) const {
    try {
      function();
    } catch (const Error& error) {
      fail(source_, "field '{}': {}", place, error.what());
    }
  }

  Fields root_;
  const fs::path& folder_;
  std::string source_;
  StudyPlan plan_;
};

void apply(const StudyOverrides& overrides, Json& json) {
  if (!json.is_object()) return;  // the reader says so
  if (!overrides.device.empty()) json["device"] = overrides.device;
  if (!overrides.numerics.empty()) json["numerics"] = overrides.numerics;
  if (overrides.configurations.empty()) return;
  json["configurations"] = overrides.configurations;
  json.erase("baseline");
}

}  // namespace

StudyPlan parse_study_plan(std::string_view yaml, const fs::path& folder, std::string_view source,
                           const StudyOverrides& overrides) {
  Json json = parse_yaml(yaml, source);
  apply(overrides, json);
  return PlanReader(json, folder, source).read();
}

StudyPlan read_study_plan(const fs::path& path, const StudyOverrides& overrides) {
  return parse_study_plan(read_file(path, 1 << 20), path.parent_path(), path.string(), overrides);
}

}  // namespace halftone

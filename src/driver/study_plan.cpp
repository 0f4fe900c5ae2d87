#include "driver/study_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "driver/quantize_folder.h"
#include "eval/prompts.h"
#include "eval/task.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

// A mapping of the file that knows its own place and the keys it may have.
class Section {
 public:
  Section(const Json& json, std::string path, std::string_view source, std::initializer_list<std::string_view> keys)
      : json_(json), path_(std::move(path)), source_(source) {
    require(json.is_object(), source_, "field '{}': expected a mapping with {}, found {}", path_, fmt::join(keys, ", "),
            json.type_name());
    for (const auto& [key, value] : json.items()) {
      require(std::find(keys.begin(), keys.end(), key) != keys.end(), source_, "unknown key '{}': expected one of {}",
              place(key), fmt::join(keys, ", "));
    }
  }

  std::string place(std::string_view key) const {
    return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  }
  bool has(std::string_view key) const { return json_.contains(key) && !json_.at(std::string(key)).is_null(); }
  const Json& at(std::string_view key) const {
    require(has(key), source_, "field '{}': missing", place(key));
    return json_.at(std::string(key));
  }
  std::string text(std::string_view key) const {
    const Json& value = at(key);
    require(value.is_string() && !value.get_ref<const std::string&>().empty(), source_,
            "field '{}': expected a text, found {}", place(key), value.dump());
    return value.get<std::string>();
  }
  std::string text_or(std::string_view key, std::string fallback) const {
    return has(key) ? text(key) : std::move(fallback);
  }
  std::int64_t count_or(std::string_view key, std::int64_t fallback, std::int64_t least = 0) const {
    if (!has(key)) return fallback;
    const Json& value = at(key);
    require(value.is_number_integer() && value.get<std::int64_t>() >= least, source_,
            "field '{}': expected a whole number from {}, found {}", place(key), least, value.dump());
    return value.get<std::int64_t>();
  }
  double seconds_or(std::string_view key, double fallback) const {
    if (!has(key)) return fallback;
    const Json& value = at(key);
    require(value.is_number() && value.get<double>() >= 0, source_, "field '{}': expected seconds, found {}",
            place(key), value.dump());
    return value.get<double>();
  }
  fs::path existing_path(std::string_view key, const fs::path& folder) const {
    const fs::path path = (folder / text(key)).lexically_normal();
    require(fs::exists(path), source_, "field '{}': '{}' does not exist", place(key), path.string());
    return path;
  }

 private:
  const Json& json_;
  std::string path_, source_;
};

class PlanReader {
 public:
  PlanReader(const Json& json, const fs::path& folder, std::string_view source)
      : root_(json, "", source,
              {"name", "model", "seed", "numerics", "prompts", "pixels", "baseline", "configurations", "tasks", "kl",
               "perplexity", "calibration", "bench", "note"}),
        folder_(folder),
        source_(source) {}

  StudyPlan read() {
    plan_.name = root_.text("name");
    plan_.note = root_.text_or("note", "");
    plan_.model = root_.existing_path("model", folder_);
    plan_.seed = static_cast<std::uint64_t>(root_.count_or("seed", 0));
    plan_.numerics = root_.text_or("numerics", "f32");
    require(plan_.numerics == "f32" || plan_.numerics == "bf16", source_,
            "field 'numerics': expected f32 or bf16, found '{}'", plan_.numerics);
    read_pixels();
    read_tasks();
    read_likelihoods();
    if (root_.has("calibration")) {
      const Section s(root_.at("calibration"), "calibration", source_, {"data", "samples", "tokens"});
      plan_.calibration = {s.existing_path("data", folder_), s.count_or("samples", 128, 1),
                           s.count_or("tokens", 512, 1)};
    }
    read_configurations();
    if (root_.has("bench")) read_bench();
    return std::move(plan_);
  }

 private:
  void read_pixels() {
    if (!root_.has("pixels")) return;
    const Section s(root_.at("pixels"), "pixels", source_, {"min", "max"});
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
      const Section s(object, "tasks." + name, source_, {"data", "limit", "prompts"});
      task.data = s.existing_path("data", folder_);
      task.limit = s.count_or("limit", 0);
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
      const Section s(root_.at("kl"), "kl", source_, {"samples"});
      plan_.kl = {s.count_or("samples", 100)};
      require(!plan_.tasks.empty(), source_, "field 'kl': expected tasks whose answers it runs over, found none");
    }
    if (root_.has("perplexity")) {
      const Section s(root_.at("perplexity"), "perplexity", source_, {"data", "window", "limit"});
      plan_.perplexity = {s.existing_path("data", folder_), s.count_or("window", 256, 2), s.count_or("limit", 0)};
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
      check([&] { recipe = load_recipe(name); }, place);
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
    const Section s(root_.at("bench"), "bench", source_,
                    {"repeats", "warmup", "seconds", "output_tokens", "workloads"});
    BenchPlan bench;
    bench.repeats = s.count_or("repeats", bench.repeats, 1);
    bench.warmup = s.count_or("warmup", bench.warmup);
    bench.seconds = s.seconds_or("seconds", bench.seconds);
    bench.output_tokens = s.count_or("output_tokens", bench.output_tokens, 2);
    const Json& workloads = s.at("workloads");
    require(workloads.is_object(), source_, "field 'bench.workloads': expected a mapping, found {}",
            workloads.type_name());
    for (const auto& [name, value] : workloads.items()) {
      const Section w(value, "bench.workloads." + name, source_, {"data", "width", "height", "prompts"});
      WorkloadPlan workload{name, {}, 0, 0, w.count_or("prompts", 0)};
      if (w.has("data")) {
        workload.data = w.existing_path("data", folder_);
      } else {
        require(w.has("width") && w.has("height"), source_, "field '{}': expected data, or width and height",
                w.place(""));
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

  Section root_;
  const fs::path& folder_;
  std::string source_;
  StudyPlan plan_;
};

}  // namespace

StudyPlan parse_study_plan(std::string_view yaml, const fs::path& folder, std::string_view source) {
  const Json json = parse_yaml(yaml, source);
  return PlanReader(json, folder, source).read();
}

StudyPlan read_study_plan(const fs::path& path) {
  return parse_study_plan(read_file(path, 1 << 20), path.parent_path(), path.string());
}

}  // namespace halftone

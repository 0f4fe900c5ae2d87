// How far a study on a GPU is from the same study on the CPU, a JSON line for each configuration and task that both have:
//   compare_studies CPU.db GPU.db
// `inside`: the GPU's figure lies in the 95 % interval of the CPU's. `clear_flips`: answers that differ although on the CPU
// every token of theirs led by more than 0.5. Exits with 1 where a figure lies outside or an answer flips so, and where the
// studies did not ask the same of the same weights.
#include <cstdio>
#include <map>

#include "study/summary.h"

namespace halftone {
namespace {

constexpr double kClearGap = 0.5;  // between the two largest logits

Json compare_figures(const Interval& cpu, double gpu) {
  return {{"cpu", cpu.value},
          {"low", cpu.low},
          {"high", cpu.high},
          {"gpu", gpu},
          {"inside", gpu >= cpu.low && gpu <= cpu.high}};
}

void count_flips(const std::vector<SampleRow>& cpu, const std::vector<SampleRow>& gpu, Json& line) {
  std::map<std::string, const SampleRow*> on_gpu;
  for (const SampleRow& row : gpu) on_gpu[row.id] = &row;
  std::int64_t compared = 0, equal = 0, clear_flips = 0;
  Json flipped = Json::array();
  for (const SampleRow& row : cpu) {
    const auto found = on_gpu.find(row.id);
    if (found == on_gpu.end()) continue;
    ++compared;
    if (row.tokens == found->second->tokens) {
      ++equal;
    } else if (get_field<double>(row.score, "smallest_gap", row.id) > kClearGap) {
      ++clear_flips;
      flipped.push_back(row.id);
    }
  }
  require(compared > 0, "compare_studies", "the studies have no answer in common where both have a score");
  line["answers"] = compared;
  line["equal_answers"] = equal;
  line["clear_flips"] = clear_flips;
  if (!flipped.empty()) line["flipped"] = flipped;
}

class Comparison {
 public:
  Comparison(const std::string& cpu, const std::string& gpu)
      : cpu_store_(Store::open(cpu)),
        gpu_store_(Store::open(gpu)),
        cpu_(summarize_study(cpu_store_)),
        gpu_(summarize_study(gpu_store_)) {}

  // True when all is as it should be.
  bool run() {
    for (const ConfigurationSummary& cpu : cpu_.configurations) {
      const ConfigurationSummary* gpu = gpu_.find(cpu.row.name);
      if (!gpu) continue;
      ++configurations_;
      require(cpu.row.weights_hash == gpu->row.weights_hash, cpu.row.name, "expected the same weights, found {} and {}",
              cpu.row.weights_hash, gpu->row.weights_hash);
      for (const TaskRow& task : cpu_.tasks) compare(cpu, *gpu, task);
    }
    require(configurations_ > 0, "compare_studies", "the studies have no configuration in common");
    require(figures_ > 0, "compare_studies", "the studies have no figure in common");
    return good_;
  }

 private:
  void compare(const ConfigurationSummary& cpu, const ConfigurationSummary& gpu, const TaskRow& task) {
    Json line = {{"configuration", cpu.row.name}, {"task", task.name}};
    const std::string& name = task.name;
    if (cpu.accuracy.contains(name) && gpu.accuracy.contains(name)) {
      check_task(task);
      line.update(compare_figures(cpu.accuracy.at(name).value, gpu.accuracy.at(name).value.value));
      count_flips(cpu_store_.samples(cpu.row.name, name), gpu_store_.samples(gpu.row.name, name), line);
    } else if (cpu.divergence.contains(name) && gpu.divergence.contains(name)) {
      line.update(compare_figures(cpu.divergence.at(name).kl, gpu.divergence.at(name).kl.value));
    } else if (cpu.perplexity.contains(name) && gpu.perplexity.contains(name)) {
      check_task(task);
      line.update(compare_figures(cpu.perplexity.at(name).value, gpu.perplexity.at(name).value.value));
    } else {
      return;
    }
    ++figures_;
    good_ = good_ && line["inside"].get<bool>() && line.value("clear_flips", 0) == 0;
    std::printf("%s\n", line.dump().c_str());
  }

  void check_task(const TaskRow& cpu) const {
    for (const TaskRow& gpu : gpu_.tasks) {
      if (gpu.name != cpu.name) continue;
      require(cpu.data_hash == gpu.data_hash && cpu.prompt_hash == gpu.prompt_hash, cpu.name,
              "expected the same data and prompts, found data {} and {}", cpu.data_hash, gpu.data_hash);
    }
  }

  Store cpu_store_, gpu_store_;
  StudySummary cpu_, gpu_;
  int configurations_ = 0, figures_ = 0;
  bool good_ = true;
};

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: compare_studies CPU.db GPU.db\n");
    return 2;
  }
  try {
    return halftone::Comparison(argv[1], argv[2]).run() ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

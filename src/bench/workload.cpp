#include "bench/workload.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/hash.h"
#include "base/statistics.h"
#include "base/timer.h"
#include "data/readers.h"

namespace halftone {

Prompt picture_prompt(std::vector<std::shared_ptr<const PictureFile>> pictures, std::string text) {
  Prompt prompt;
  prompt.messages.push_back(user_message(std::move(text), static_cast<int>(pictures.size())));
  prompt.pictures = std::move(pictures);
  return prompt;
}

Workload llava_bench_workload(const std::filesystem::path& folder, std::int64_t limit, std::int64_t output_tokens) {
  const TaskData data = read_llava_bench(folder);
  Workload workload{"llava-bench", {}, output_tokens};
  const auto total = static_cast<std::int64_t>(data.samples.size());
  const std::int64_t count = limit > 0 ? std::min(limit, total) : total;
  for (std::int64_t i = 0; i < count; ++i) {
    const Sample& sample = data.samples[static_cast<std::size_t>(i * total / count)];
    workload.prompts.push_back(picture_prompt({read_picture_file(sample.pictures.at(0))}, sample.question));
  }
  return workload;
}

Workload synthetic_workload(std::int64_t width, std::int64_t height, std::int64_t count, std::uint64_t seed,
                            std::int64_t output_tokens, std::int64_t per_request) {
  Workload workload{fmt::format("synthetic-{}x{}", width, height), {}, output_tokens};
  std::vector<std::shared_ptr<const PictureFile>> files;
  for (std::int64_t i = 0; i < count; ++i) {
    PictureFile file;
    file.source = fmt::format("{}/{}", workload.name, i);
    file.bytes = synthetic_jpeg(width, height, seed + static_cast<std::uint64_t>(i));
    file.hash = sha256_hex(file.bytes);
    files.push_back(std::make_shared<const PictureFile>(std::move(file)));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<std::shared_ptr<const PictureFile>> pictures;
    for (std::int64_t k = 0; k < per_request; ++k) {
      pictures.push_back(files[static_cast<std::size_t>((i * per_request + k) % count)]);
    }
    workload.prompts.push_back(picture_prompt(std::move(pictures), "Describe the picture in detail."));
  }
  return workload;
}

double BenchRepeat::per_token() const {
  if (times.tokens.empty()) return 0;
  return std::accumulate(times.tokens.begin(), times.tokens.end(), 0.0) / static_cast<double>(times.tokens.size());
}

double BenchRepeat::throughput() const {
  const double start = batch > 1 ? times.vision + times.prefill + times.first_token : times.ttft();
  const double seconds = start + std::accumulate(times.tokens.begin(), times.tokens.end(), 0.0);
  return seconds > 0 ? static_cast<double>(output_tokens) / seconds : 0;
}

BenchRepeat run_repeat(Session& session, const Workload& workload, std::int64_t index, std::int64_t batch) {
  SamplingOptions sampling;
  sampling.max_new_tokens = workload.output_tokens;
  sampling.ignore_eos = true;
  const auto count = static_cast<std::int64_t>(workload.prompts.size());
  std::vector<Prompt> prompts;
  for (std::int64_t i = index * batch; i < (index + 1) * batch; ++i) {
    prompts.push_back(workload.prompts[static_cast<std::size_t>(i % count)]);
  }
  BenchRepeat repeat;
  repeat.index = index;
  repeat.batch = batch;
  std::vector<Generation> generations;
  if (batch == 1) {
    generations.push_back(session.generate(prompts[0], sampling));
  } else {
    generations = session.generate_batch(prompts, sampling);
  }
  for (const Generation& generation : generations) {
    require(generation.reused_tokens == 0, "bench", "expected an engine without prefix reuse");
    repeat.prompt_tokens += generation.prompt_tokens;
    repeat.visual_tokens += generation.visual_tokens;
    repeat.output_tokens += static_cast<std::int64_t>(generation.tokens.size());
    repeat.memory = generation.memory;
    for (const Stage& stage : kStages) repeat.times.*stage.seconds += generation.times.*stage.seconds;
    if (generation.times.tokens.size() > repeat.times.tokens.size()) repeat.times.tokens = generation.times.tokens;
  }
  return repeat;
}

bool run_workload(const std::shared_ptr<const Engine>& engine, const Workload& workload, const BenchOptions& options,
                  int threads, std::int64_t done, const std::function<void(const BenchRepeat&)>& sink,
                  std::stop_token stop, const Progress& progress) {
  require(!workload.prompts.empty(), "bench", "workload '{}' has no prompts", workload.name);
  const auto session = Session::create(engine, threads);
  require(options.batch >= 1, "bench", "expected a batch of one request or more, got {}", options.batch);
  for (std::int64_t i = 0; i < options.warmup && done < options.repeats; ++i) {
    if (stop.stop_requested()) return false;
    run_repeat(*session, workload, i, options.batch);
  }
  const Timer timer;
  for (std::int64_t i = done; i < options.repeats; ++i) {
    if (stop.stop_requested()) return false;
    if (i > done && options.budget_seconds > 0 && timer.seconds() > options.budget_seconds) break;
    sink(run_repeat(*session, workload, i, options.batch));
    if (progress) progress(workload.name, i + 1, options.repeats);
  }
  return true;
}

SessionMemory larger_of(const SessionMemory& a, const SessionMemory& b) {
  return {std::max(a.kv, b.kv), std::max(a.workspace, b.workspace)};
}

Json summarize_repeats(const std::vector<BenchRepeat>& repeats) {
  const auto column = [&](auto value, double unit) {
    std::vector<double> values;
    for (const BenchRepeat& repeat : repeats) values.push_back(value(repeat) * unit);
    const Summary s = summarize(std::move(values));
    return Json{{"median", s.median}, {"low", s.median_low}, {"high", s.median_high}, {"p90", s.p90},
                {"p99", s.p99},       {"min", s.minimum},    {"max", s.maximum},      {"count", s.count}};
  };
  constexpr double kMilliseconds = 1000;
  Json json;
  for (const Stage& stage : kStages) {
    json[std::string(stage.name)] = column([&](const BenchRepeat& r) { return r.times.*stage.seconds; }, kMilliseconds);
  }
  json["ttft"] = column([](const BenchRepeat& r) { return r.times.ttft(); }, kMilliseconds);
  json["decode_per_token"] = column([](const BenchRepeat& r) { return r.per_token(); }, kMilliseconds);
  json["tokens_per_second"] = column([](const BenchRepeat& r) { return r.throughput(); }, 1);
  json["prompt_tokens"] = column([](const BenchRepeat& r) { return static_cast<double>(r.prompt_tokens); }, 1);
  json["visual_tokens"] = column([](const BenchRepeat& r) { return static_cast<double>(r.visual_tokens); }, 1);
  json["output_tokens"] = column([](const BenchRepeat& r) { return static_cast<double>(r.output_tokens); }, 1);
  return json;
}

}  // namespace halftone

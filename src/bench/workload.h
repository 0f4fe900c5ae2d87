#pragma once
// Latency experiments: what is asked, how often, and what the clock said.

#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "runtime/engine.h"

namespace halftone {

// Requests that are sent one after another, each repeat the next one, round and round.
struct Workload {
  std::string name;
  std::vector<Prompt> prompts;
  std::int64_t output_tokens = 64;  // exactly as many: stop tokens are ignored, so that configurations do equal work
};

// One user message with the pictures before the text.
Prompt picture_prompt(std::vector<std::shared_ptr<const PictureFile>> pictures, std::string text);

// The questions of a LLaVA-Bench folder (questions.jsonl, images/), at most `limit` (0: all), evenly spread over the
// file.
Workload llava_bench_workload(const std::filesystem::path& folder, std::int64_t limit, std::int64_t output_tokens);
// `count` synthetic JPEGs (gradients and rectangles drawn from the seed, quality 85, each different) of one size, in as many
// requests of `per_request` pictures each: the ones that follow one another, round and round.
Workload synthetic_workload(std::int64_t width, std::int64_t height, std::int64_t count, std::uint64_t seed,
                            std::int64_t output_tokens, std::int64_t per_request = 1);
// The JPEG file of one such picture.
std::string synthetic_jpeg(std::int64_t width, std::int64_t height, std::uint64_t seed);

// Fewer repeats than this have no 95 % interval of their median (base/statistics.h).
inline constexpr std::int64_t kFewestForInterval = 6;

struct BenchOptions {
  std::int64_t warmup = 2;
  std::int64_t repeats = 30;
  double budget_seconds = 0;  // stop after this long even with fewer repeats (at least one is made); 0: no limit
  std::int64_t batch = 1;     // requests that are answered at once; one repeat is so many
};

// One request, or one batch of them. Times in seconds; those of a batch are sums over its requests, of tokens the steps'.
struct BenchRepeat {
  std::int64_t index = 0;  // also which prompt: index * batch % prompts
  std::int64_t batch = 1;
  std::int64_t prompt_tokens = 0, visual_tokens = 0, output_tokens = 0;
  StageTimes times;
  SessionMemory memory;  // of the session after it

  // Time per output token after the first: (last - first) / (output_tokens - 1).
  double per_token() const;
  // Output tokens per second of the whole request; of a batch from its first vision tower to its last token: its pictures
  // are taken as decoded.
  double throughput() const;
};

// Repeat `index` of a workload: `batch` requests at once. Throws Error when a key or value was reused.
BenchRepeat run_repeat(Session& session, const Workload& workload, std::int64_t index, std::int64_t batch);

// Runs the repeats that are not `done` yet and hands over each as it is finished. Nothing is cached between requests:
// every picture is decoded and encoded, no key or value is reused. For that the engine must have been loaded without a
// picture cache (the caller's care) and without prefix reuse (Error when a key or value was reused all the same).
// Returns false when a stop was requested.
bool run_workload(const std::shared_ptr<const Engine>& engine, const Workload& workload, const BenchOptions& options,
                  int threads, std::int64_t done, const std::function<void(const BenchRepeat&)>& sink,
                  std::stop_token stop, const Progress& progress);

// The larger of each member.
SessionMemory larger_of(const SessionMemory& a, const SessionMemory& b);

// {"ttft": {"median": ..., "low": ..., "high": ..., "p90": ..., "p99": ..., "min": ..., "max": ..., "count": ...}, ...}:
// the stages by their names, ttft and decode_per_token in milliseconds; tokens_per_second; prompt_tokens, visual_tokens
// and output_tokens. "low" and "high" are the median's 95 % interval, of fewer than kFewestForInterval values their range.
Json summarize_repeats(const std::vector<BenchRepeat>& repeats);

// The process's peak resident memory in bytes since start or the last reset, as the kernel counts it (VmHWM).
std::int64_t peak_resident_bytes();
// Starts a new peak. Returns false where the kernel does not allow it.
bool reset_peak_resident();

}  // namespace halftone

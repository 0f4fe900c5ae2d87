#pragma once
// What a session does its work with: the model on one device and the caches of its sequences there.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ops/sequence_end.h"
#include "runtime/engine_state.h"
#include "runtime/sampler.h"

namespace halftone {

class Worker {
 public:
  virtual ~Worker() = default;

  // Called for each wanted token of a prompt in turn, with the logits that follow it, [vocabulary].
  using LogitRows = std::function<void(std::int64_t token, std::span<const float> logits)>;
  // A prompt to read, and who chooses its answer's first token.
  struct PromptRun {
    std::size_t sequence = 0;
    PreparedPrompt* prompt = nullptr;
    StageTimes* times = nullptr;
    Sampler* sampler = nullptr;
  };
  // The newest token of a sequence, and who chooses the next one.
  struct StepRow {
    std::size_t sequence = 0;
    TokenId token = 0;
    std::int32_t position = 0;
    Sampler* sampler = nullptr;
    TokenLimit limit;  // of the next one: what the session tests itself, for a device that goes on by itself
  };

  // Sequences at once, at most.
  virtual std::size_t most_sequences() const = 0;
  // True when a token's keys and values have the same bits whether a prompt or a step computed them, so that what was
  // decoded may be the beginning of the next prompt.
  virtual bool reuses_decoded() const = 0;
  // Tokens in a sequence's cache.
  virtual std::int64_t length(std::size_t sequence) = 0;
  // Whether each of the sequences can take so many tokens more, all of them together.
  virtual bool has_room(std::span<const std::size_t> sequences, std::int64_t more) = 0;
  // `sequence` keeps the first `length` tokens of `donor` (perhaps itself), whatever it held.
  virtual void keep_prefix(std::size_t sequence, std::size_t donor, std::int64_t length) = 0;
  // Runs the tokens of `prompt` after those that the cache holds, its pictures first. Rows are wanted from the prompt's
  // token `first_wanted` on. Adds the times of pictures, prefill and logits.
  virtual void prefill(std::size_t sequence, PreparedPrompt& prompt, std::int64_t first_wanted, StageTimes& times,
                       const LogitRows& rows) = 0;
  // Tokens of several prompts that run faster together, at most; 0: none do.
  virtual std::int64_t most_together() const = 0;
  // The same for prompts of different sequences: one, or several of most_together() tokens in all that no cache holds. The
  // first token of each one's answer. Each takes the share of its tokens in the time of a pass.
  virtual std::vector<Choice> prefill(std::span<const PromptRun> runs) = 0;
  // Appends a token to each row's sequence; what follows.
  virtual std::vector<Choice> step(std::span<const StepRow> rows) = 0;
  virtual SessionMemory memory() const = 0;
  // As Session has them.
  virtual void start_profile() = 0;
  virtual std::vector<DeviceOpTime> take_profile() = 0;
};

// On the CPU, or where the engine's model is. The pool must outlive it.
std::unique_ptr<Worker> make_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool);
std::unique_ptr<Worker> make_cpu_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool);
std::unique_ptr<Worker> make_device_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool);

}  // namespace halftone

#include <algorithm>

#include "runtime/sequence.h"
#include "runtime/worker.h"

namespace halftone {
namespace {

// One answer that is being written.
struct Writer {
  Writer(const EngineState& engine, const SamplingOptions& options)
      : sampler(options), decoder(engine.tokenizer()), engine(engine), options(options) {}

  // Takes the next token. False when the answer is complete.
  bool take(const Choice& choice, const TextSink& sink) {
    result.smallest_gap = result.tokens.empty() ? choice.gap : std::min(result.smallest_gap, choice.gap);
    result.tokens.push_back(choice.token);
    const bool wanted = tell(decoder.push(choice.token), sink);
    result.stopped = !options.ignore_eos && engine.stops(choice.token);
    return wanted && !result.stopped && static_cast<std::int64_t>(result.tokens.size()) < options.max_new_tokens &&
           result.prompt_tokens + static_cast<std::int64_t>(result.tokens.size()) <
               engine.model().config().decoder.max_positions;
  }

  void finish(const TextSink& sink) {
    tell(decoder.finish(), sink);
    result.text = engine.tokenizer()->decode(result.tokens, true);
  }

  static bool tell(const std::string& text, const TextSink& sink) { return !sink || text.empty() || sink(text); }

  Sampler sampler;
  StreamingDecoder decoder;
  const EngineState& engine;
  const SamplingOptions& options;
  Generation result;
  std::int32_t next_position = 0;
};

class SessionState final : public Session {
 public:
  SessionState(std::shared_ptr<const EngineState> engine, int threads)
      : engine_(std::move(engine)), pool_(threads), worker_(make_worker(engine_, pool_)) {}

  Generation generate(const Prompt& prompt, const SamplingOptions& options, const TextSink& sink) override {
    const Timer prepare;
    PreparedPrompt prepared = engine_->prepare(prompt, pool_);
    const double prepare_seconds = prepare.seconds();
    Writer writer(*engine_, options);
    if (!start(0, prepared, prepare_seconds, writer, sink)) return finish(writer, sink);
    Timer timer;
    do {
      const bool more = writer.take(step({0}, {&writer}).front(), sink);
      writer.result.times.tokens.push_back(timer.seconds());
      timer = Timer();
      if (!more) break;
    } while (true);
    return finish(writer, sink);
  }

  std::vector<Generation> generate_batch(std::span<const Prompt> prompts, const SamplingOptions& options) override {
    require(prompts.size() <= worker_->most_sequences(), "batch", "expected at most {} prompts at once, got {}",
            worker_->most_sequences(), prompts.size());
    std::vector<std::unique_ptr<Writer>> writers;
    std::vector<std::size_t> active;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const Timer prepare;
      PreparedPrompt prepared = engine_->prepare(prompts[i], pool_);
      const double prepare_seconds = prepare.seconds();
      writers.push_back(std::make_unique<Writer>(*engine_, options));
      if (start(i, prepared, prepare_seconds, *writers.back(), {})) active.push_back(i);
    }
    while (!active.empty()) {
      const Timer timer;
      std::vector<Writer*> running;
      for (const std::size_t i : active) running.push_back(writers[i].get());
      const std::vector<Choice> choices = step(active, running);
      std::vector<std::size_t> still;
      for (std::size_t k = 0; k < active.size(); ++k) {
        if (running[k]->take(choices[k], {})) still.push_back(active[k]);
        running[k]->result.times.tokens.push_back(timer.seconds());
      }
      active = std::move(still);
    }
    std::vector<Generation> results;
    for (const auto& writer : writers) results.push_back(finish(*writer, {}));
    return results;
  }

  void score(const Prompt& prompt, std::span<const TokenId> answer, const LogitsSink& sink) override {
    if (answer.empty()) return;
    PreparedPrompt prepared = engine_->prepare(prompt, pool_);
    const auto prompt_tokens = static_cast<std::int64_t>(prepared.tokens.size());
    for (std::size_t i = 0; i + 1 < answer.size(); ++i) {
      prepared.tokens.push_back(answer[i]);
      prepared.positions.values.push_back({prepared.positions.next, prepared.positions.next, prepared.positions.next});
      ++prepared.positions.next;
    }
    require(static_cast<std::int64_t>(prepared.tokens.size()) <= engine_->model().config().decoder.max_positions,
            "score", "expected at most {} tokens, got {}", engine_->model().config().decoder.max_positions,
            prepared.tokens.size());
    StageTimes times;
    run_prompt(0, prepared, prompt_tokens - 1, times, finite_rows(1 - prompt_tokens, sink));
  }

  void start_profile() override { worker_->start_profile(); }
  std::vector<DeviceOpTime> take_profile() override { return worker_->take_profile(); }

  void score_text(std::span<const TokenId> tokens, const LogitsSink& sink) override {
    if (tokens.size() < 2) return;
    PreparedPrompt prepared = engine_->prepare_tokens(tokens.first(tokens.size() - 1));
    StageTimes times;
    run_prompt(0, prepared, 0, times, finite_rows(1, sink));
  }

 private:
  Sequence& sequence(std::size_t i) {
    while (sequences_.size() <= i) sequences_.push_back(std::make_unique<Sequence>());
    return *sequences_[i];
  }

  void forget(std::size_t i) {
    sequences_[i]->keep_prefix(*sequences_[i], 0);
    worker_->keep_prefix(i, i, 0);
  }

  // Until each of `wanting` can take `more` tokens: what idle sequences hold goes, those of the largest numbers first.
  void make_room(std::span<const std::size_t> wanting, std::int64_t more,
                 const std::function<bool(std::size_t)>& is_idle) {
    for (std::size_t i = sequences_.size(); i-- > 0 && !worker_->has_room(wanting, more);) {
      if (is_idle(i)) forget(i);
    }
  }

  // Reads into sequence i what no sequence of this session holds, and at least the tokens from `first_wanted` on. Returns
  // how many tokens were held.
  std::int64_t run_prompt(std::size_t i, PreparedPrompt& prompt, std::int64_t first_wanted, StageTimes& times,
                          const Worker::LogitRows& rows) {
    sequence(i);
    std::size_t donor = i;
    std::int64_t shared = 0;
    if (engine_->options().reuse_prefix) {
      shared = sequences_[i]->shared_prefix(prompt, first_wanted);
      for (std::size_t other = 0; other < sequences_.size(); ++other) {
        const std::int64_t length = sequences_[other]->shared_prefix(prompt, first_wanted);
        if (length > shared) {
          shared = length;
          donor = other;
        }
      }
    }
    const std::int64_t more = static_cast<std::int64_t>(prompt.tokens.size()) - worker_->length(i);
    make_room({&i, 1}, more, [&](std::size_t other) { return other > i && other != donor; });
    if (donor > i && !worker_->has_room({&i, 1}, more)) {
      shared = sequences_[i]->shared_prefix(prompt, first_wanted);
      forget(donor);
      donor = i;
    }
    // should the worker fail to copy, the books say that nothing is held
    if (donor != i) sequences_[i]->keep_prefix(*sequences_[i], 0);
    worker_->keep_prefix(i, donor, shared);
    sequences_[i]->keep_prefix(*sequences_[donor], shared);
    worker_->prefill(i, prompt, first_wanted, times, rows);
    sequences_[i]->extend(prompt);
    return shared;
  }

  // Reads the prompt and takes the first token. False when that completes the answer.
  bool start(std::size_t i, PreparedPrompt& prompt, double prepare_seconds, Writer& writer, const TextSink& sink) {
    Generation& result = writer.result;
    result.prompt_tokens = static_cast<std::int64_t>(prompt.tokens.size());
    for (const PreparedPrompt::Picture& picture : prompt.pictures) {
      result.visual_tokens += picture.grid.tokens(engine_->model().config().vision.merge_size);
      // what looking up the size took is counted with the picture
      if (picture.loaded) prepare_seconds -= picture.loaded->decode_seconds + picture.loaded->resize_seconds;
    }
    writer.next_position = prompt.positions.next;
    if (writer.options.max_new_tokens <= 0) return false;
    result.times.prefill = std::max(0.0, prepare_seconds);
    bool more = false;
    result.reused_tokens = run_prompt(
        i, prompt, result.prompt_tokens - 1, result.times,
        [&](std::int64_t, std::span<const float> logits) { more = writer.take(writer.sampler.choose(logits), sink); });
    return more;
  }

  // Runs the newest token of each sequence; what follows.
  std::vector<Choice> step(const std::vector<std::size_t>& sequences, const std::vector<Writer*>& writers) {
    std::vector<Worker::StepRow> rows;
    for (std::size_t k = 0; k < sequences.size(); ++k) {
      Writer& writer = *writers[k];
      rows.push_back({sequences[k], writer.result.tokens.back(), writer.next_position++, &writer.sampler});
    }
    make_room(sequences, 1, [&](std::size_t i) { return std::ranges::find(sequences, i) == sequences.end(); });
    std::vector<Choice> choices = worker_->step(rows);
    if (worker_->reuses_decoded()) {
      for (const Worker::StepRow& row : rows) sequence(row.sequence).push(row.token);
    }
    return choices;
  }

  // Hands over a prompt's logits, token t as index t + shift.
  static Worker::LogitRows finite_rows(std::int64_t shift, const LogitsSink& sink) {
    return [shift, &sink](std::int64_t token, std::span<const float> logits) {
      require(std::all_of(logits.begin(), logits.end(), [](float x) { return x - x == 0; }), "logits",
              "expected finite numbers, got NaN or infinity at position {}", token);
      sink(static_cast<std::size_t>(token + shift), logits);
    };
  }

  Generation finish(Writer& writer, const TextSink& sink) {
    writer.finish(sink);
    writer.result.memory = worker_->memory();
    return std::move(writer.result);
  }

  std::shared_ptr<const EngineState> engine_;
  ThreadPool pool_;
  std::unique_ptr<Worker> worker_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

}  // namespace

std::unique_ptr<Session> Session::create(std::shared_ptr<const Engine> engine, int threads) {
  auto state = std::dynamic_pointer_cast<const EngineState>(engine);
  require(state != nullptr, "session", "expected an engine that Engine::load made");
  return std::make_unique<SessionState>(std::move(state), threads);
}

}  // namespace halftone

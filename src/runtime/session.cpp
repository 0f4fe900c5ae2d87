#include <algorithm>

#include "runtime/sampler.h"
#include "runtime/sequence.h"

namespace halftone {
namespace {

// Rows of logits made at once when many are wanted: [rows, vocabulary] stays small.
constexpr std::int64_t kLogitRows = 64;

std::span<const float> row_of(const Tensor& logits, std::int64_t row) {
  return {logits.data<float>() + row * logits.dim(1), static_cast<std::size_t>(logits.dim(1))};
}

// One answer that is being written.
struct Writer {
  Writer(const EngineState& engine, const SamplingOptions& options)
      : sampler(options), decoder(engine.tokenizer()), engine(engine), options(options) {}

  // Takes the next token. False when the answer is complete.
  bool take(std::span<const float> logits, const TextSink& sink) {
    const Choice choice = sampler.choose(logits);
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
      : engine_(std::move(engine)), pool_(threads), stream_{&pool_, Device::kCpu} {}

  Generation generate(const Prompt& prompt, const SamplingOptions& options, const TextSink& sink) override {
    const Timer prepare;
    PreparedPrompt prepared = engine_->prepare(prompt, pool_);
    const double prepare_seconds = prepare.seconds();
    Writer writer(*engine_, options);
    if (!start(0, prepared, prepare_seconds, writer, sink)) return finish(writer, sink);
    Timer timer;
    do {
      step({&sequence(0)}, {&writer});
      const bool more = writer.take(row_of(logits_, 0), sink);
      writer.result.times.tokens.push_back(timer.seconds());
      timer = Timer();
      if (!more) break;
    } while (true);
    return finish(writer, sink);
  }

  std::vector<Generation> generate_batch(std::span<const Prompt> prompts, const SamplingOptions& options) override {
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
      std::vector<Sequence*> sequences;
      std::vector<Writer*> running;
      for (const std::size_t i : active) {
        sequences.push_back(&sequence(i));
        running.push_back(writers[i].get());
      }
      step(sequences, running);
      std::vector<std::size_t> still;
      for (std::size_t k = 0; k < active.size(); ++k) {
        if (running[k]->take(row_of(logits_, static_cast<std::int64_t>(k)), {})) still.push_back(active[k]);
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
    const Tensor hidden = run_prompt(0, prepared, prompt_tokens - 1, times);
    emit(hidden.rows(hidden.dim(0) - static_cast<std::int64_t>(answer.size()), hidden.dim(0)), 0, sink);
  }

  void score_text(std::span<const TokenId> tokens, const LogitsSink& sink) override {
    if (tokens.size() < 2) return;
    PreparedPrompt prepared = engine_->prepare_tokens(tokens.first(tokens.size() - 1));
    StageTimes times;
    emit(run_prompt(0, prepared, 0, times), 1, sink);
  }

 private:
  RunContext run() { return {stream_, workspace_, nullptr}; }

  Sequence& sequence(std::size_t i) {
    while (sequences_.size() <= i) sequences_.push_back(std::make_unique<Sequence>(engine_->kv_layout()));
    return *sequences_[i];
  }

  // Prefills sequence i with what no sequence of this session holds, and at least the tokens from `first_wanted` on.
  // Returns the hidden states of the tokens that ran, defined from `first_wanted` on.
  Tensor run_prompt(std::size_t i, PreparedPrompt& prompt, std::int64_t first_wanted, StageTimes& times) {
    Sequence& own = sequence(i);
    const Sequence* donor = &own;
    std::int64_t shared = 0;
    if (engine_->options().reuse_prefix) {
      shared = own.shared_prefix(prompt, first_wanted);
      for (const auto& other : sequences_) {
        const std::int64_t length = other->shared_prefix(prompt, first_wanted);
        if (length > shared) {
          shared = length;
          donor = other.get();
        }
      }
    }
    own.keep_prefix(*donor, shared);
    return own.prefill(*engine_, prompt, first_wanted, run(), times);
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
    const Tensor hidden = run_prompt(i, prompt, result.prompt_tokens - 1, result.times);
    result.reused_tokens = result.prompt_tokens - hidden.dim(0);
    const Timer timer;
    const Tensor logits = engine_->model().logits(hidden.rows(hidden.dim(0) - 1, hidden.dim(0)), run());
    const bool more = writer.take(row_of(logits, 0), sink);
    result.times.first_token = timer.seconds();
    return more;
  }

  // Runs the newest token of each sequence; the logits that follow are in logits_, a row each.
  void step(const std::vector<Sequence*>& sequences, const std::vector<Writer*>& writers) {
    std::vector<TokenId> tokens;
    std::vector<Position> positions;
    std::vector<SequenceSlice> slices;
    positions.reserve(sequences.size());
    for (std::size_t k = 0; k < sequences.size(); ++k) {
      Writer& writer = *writers[k];
      tokens.push_back(writer.result.tokens.back());
      positions.push_back({writer.next_position, writer.next_position, writer.next_position});
      ++writer.next_position;
      slices.push_back({&sequences[k]->cache(), std::span(positions).last(1), -1});
    }
    Tensor hidden = engine_->model().embed(tokens);
    engine_->model().forward(slices, hidden, run());
    for (std::size_t k = 0; k < sequences.size(); ++k) sequences[k]->push(tokens[k]);
    logits_ = engine_->model().logits(hidden, run());
  }

  void emit(const Tensor& hidden, std::size_t first_index, const LogitsSink& sink) {
    for (std::int64_t begin = 0; begin < hidden.dim(0); begin += kLogitRows) {
      const std::int64_t end = std::min(hidden.dim(0), begin + kLogitRows);
      const Tensor logits = engine_->model().logits(hidden.rows(begin, end), run());
      for (std::int64_t row = begin; row < end; ++row) {
        const std::span<const float> values = row_of(logits, row - begin);
        require(std::all_of(values.begin(), values.end(), [](float x) { return x - x == 0; }), "logits",
                "expected finite numbers, got NaN or infinity at position {}", row);
        sink(first_index + static_cast<std::size_t>(row), values);
      }
    }
  }

  Generation finish(Writer& writer, const TextSink& sink) {
    writer.finish(sink);
    writer.result.workspace_bytes = workspace_.nbytes();
    return std::move(writer.result);
  }

  std::shared_ptr<const EngineState> engine_;
  ThreadPool pool_;
  Stream stream_;
  Workspace workspace_;
  Tensor logits_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

}  // namespace

std::unique_ptr<Session> Session::create(std::shared_ptr<const Engine> engine, int threads) {
  auto state = std::dynamic_pointer_cast<const EngineState>(engine);
  require(state != nullptr, "session", "expected an engine that Engine::load made");
  return std::make_unique<SessionState>(std::move(state), threads);
}

}  // namespace halftone

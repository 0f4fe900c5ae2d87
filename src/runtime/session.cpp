#include <algorithm>
#include <limits>

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
    const SequenceEnd end = limit.find_end(choice.token, engine.stop_tokens());
    result.stopped = end == SequenceEnd::kStop;
    limit = limit.next();
    return wanted && end == SequenceEnd::kNone;
  }

  // Once the prompt's length is known.
  TokenLimit first_limit() const {
    const std::int64_t places = engine.model().config().decoder.max_positions - result.prompt_tokens;
    const std::int64_t most = std::numeric_limits<std::int32_t>::max();
    return {static_cast<std::int32_t>(std::min({options.max_new_tokens, places, most})), !options.ignore_eos};
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
  TokenLimit limit;  // of the next token
};

class SessionState final : public Session {
 public:
  SessionState(std::shared_ptr<const EngineState> engine, int threads)
      : engine_(std::move(engine)), pool_(threads), worker_(make_worker(engine_, pool_)) {}

  Generation generate(const Prompt& prompt, const SamplingOptions& options, const TextSink& sink) override {
    Writer writer(*engine_, options);
    Request request = prepare(0, prompt, writer);
    std::vector<Request*> waiting;
    add(request, waiting, sink);
    read(waiting, sink);
    if (!request.more) return finish(writer, sink);
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
    std::vector<std::unique_ptr<Request>> requests;
    std::vector<Request*> waiting;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      writers.push_back(std::make_unique<Writer>(*engine_, options));
      requests.push_back(std::make_unique<Request>(prepare(i, prompts[i], *writers.back())));
      add(*requests.back(), waiting, {});
    }
    read(waiting, {});
    std::vector<std::size_t> active;
    for (const auto& request : requests) {
      if (request->more) active.push_back(request->sequence);
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
    run_prompt(0, prepared, prompt_tokens - 1, finite_rows(1 - prompt_tokens, sink));
  }

  void start_profile() override { worker_->start_profile(); }
  std::vector<DeviceOpTime> take_profile() override { return worker_->take_profile(); }

  void score_text(std::span<const TokenId> tokens, const LogitsSink& sink) override {
    if (tokens.size() < 2) return;
    PreparedPrompt prepared = engine_->prepare_tokens(tokens.first(tokens.size() - 1));
    run_prompt(0, prepared, 0, finite_rows(1, sink));
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

  // An answer that begins in a sequence.
  struct Request {
    std::size_t sequence = 0;
    PreparedPrompt prompt;
    Writer* writer = nullptr;
    bool more = false;  // the first token did not complete the answer

    std::int64_t last() const { return std::ssize(prompt.tokens) - 1; }
  };

  // Which sequence holds the longest beginning of a prompt that sequence i may take, of at most `limit` tokens.
  struct Held {
    std::size_t donor = 0;
    std::int64_t tokens = 0;
  };
  Held find_held(std::size_t i, const PreparedPrompt& prompt, std::int64_t limit) {
    sequence(i);
    if (!engine_->options().reuse_prefix) return {i, 0};
    Held held{i, sequences_[i]->shared_prefix(prompt, limit)};
    for (std::size_t other = 0; other < sequences_.size(); ++other) {
      const std::int64_t tokens = sequences_[other]->shared_prefix(prompt, limit);
      if (tokens > held.tokens) held = {other, tokens};
    }
    return held;
  }

  // Sequence i takes the beginning of a prompt from where it is held, and gets room for the rest. Returns how many tokens
  // it holds then.
  std::int64_t place(std::size_t i, const PreparedPrompt& prompt, std::int64_t first_wanted) {
    Held held = find_held(i, prompt, first_wanted);
    const std::int64_t more = std::ssize(prompt.tokens) - worker_->length(i);
    make_room({&i, 1}, more, [&](std::size_t other) { return other > i && other != held.donor; });
    if (held.donor > i && !worker_->has_room({&i, 1}, more)) {
      forget(held.donor);
      held = {i, sequences_[i]->shared_prefix(prompt, first_wanted)};
    }
    // should the worker fail to copy, the books say that nothing is held
    if (held.donor != i) sequences_[i]->keep_prefix(*sequences_[i], 0);
    worker_->keep_prefix(i, held.donor, held.tokens);
    sequences_[i]->keep_prefix(*sequences_[held.donor], held.tokens);
    return held.tokens;
  }

  // Reads into sequence i what no sequence of this session holds, and at least the tokens from `first_wanted` on.
  void run_prompt(std::size_t i, PreparedPrompt& prompt, std::int64_t first_wanted, const Worker::LogitRows& rows) {
    place(i, prompt, first_wanted);
    StageTimes times;
    worker_->prefill(i, prompt, first_wanted, times, rows);
    sequences_[i]->extend(prompt);
  }

  Request prepare(std::size_t i, const Prompt& prompt, Writer& writer) {
    const Timer timer;
    Request request{i, engine_->prepare(prompt, pool_), &writer};
    double seconds = timer.seconds();
    Generation& result = writer.result;
    result.prompt_tokens = std::ssize(request.prompt.tokens);
    for (const PreparedPrompt::Picture& picture : request.prompt.pictures) {
      result.visual_tokens += picture.grid.tokens(engine_->model().config().vision.merge_size);
      // what looking up the size took is counted with the picture
      if (picture.loaded) seconds -= picture.loaded->decode_seconds + picture.loaded->resize_seconds;
    }
    writer.next_position = request.prompt.positions.next;
    writer.limit = writer.first_limit();
    if (writer.options.max_new_tokens > 0) result.times.prefill = std::max(0.0, seconds);
    return request;
  }

  // Lets a request wait until its prompt is read together with those that wait already, or reads these first. Sequences
  // come in ascending order.
  void add(Request& request, std::vector<Request*>& waiting, const TextSink& sink) {
    if (request.writer->options.max_new_tokens <= 0) return;
    if (!waiting.empty() && !joins(request, waiting)) {
      begin_loading(request);
      read(waiting, sink);
    }
    request.writer->result.reused_tokens = place(request.sequence, request.prompt, request.last());
    waiting.push_back(&request);
  }

  // While a device reads the prompts before, the host is free to load the request's first picture.
  void begin_loading(Request& request) {
    if (!engine_->device_model()) return;
    const std::int64_t held = find_held(request.sequence, request.prompt, request.last()).tokens;
    for (PreparedPrompt::Picture& picture : request.prompt.pictures) {
      if (picture.begin < held || engine_->find_encoded(picture)) continue;
      engine_->begin_loading(picture);
      return;
    }
  }

  // Whether a request is better read together with those that wait than after them.
  bool joins(const Request& request, const std::vector<Request*>& waiting) {
    constexpr std::int64_t kWorthWaiting = 64;  // tokens that the request could take from one of them afterwards
    const Held held = find_held(request.sequence, request.prompt, request.last());
    std::vector<std::size_t> sequences = {request.sequence};
    std::int64_t tokens = std::ssize(request.prompt.tokens) - held.tokens;
    std::int64_t longest = std::ssize(request.prompt.tokens) - worker_->length(request.sequence);
    for (const Request* other : waiting) {
      const std::int64_t rest = std::ssize(other->prompt.tokens) - worker_->length(other->sequence);
      sequences.push_back(other->sequence);
      tokens += rest;
      longest = std::max(longest, rest);
      if (!engine_->options().reuse_prefix) continue;
      Sequence after;
      after.extend(other->prompt);
      if (after.shared_prefix(request.prompt, request.last()) >= held.tokens + kWorthWaiting) return false;
    }
    if (tokens > worker_->most_together()) return false;
    make_room(sequences, longest, [&](std::size_t i) { return i > request.sequence && i != held.donor; });
    return worker_->has_room(sequences, longest);
  }

  // Reads the prompts that wait and takes the first tokens; then none waits.
  void read(std::vector<Request*>& waiting, const TextSink& sink) {
    if (waiting.empty()) return;
    std::vector<Worker::PromptRun> runs;
    for (Request* request : waiting) {
      runs.push_back({request->sequence, &request->prompt, &request->writer->result.times, &request->writer->sampler});
    }
    const std::vector<Choice> choices = worker_->prefill(runs);
    for (std::size_t k = 0; k < waiting.size(); ++k) {
      sequences_[waiting[k]->sequence]->extend(waiting[k]->prompt);
      waiting[k]->more = waiting[k]->writer->take(choices[k], sink);
    }
    waiting.clear();
  }

  // Runs the newest token of each sequence; what follows.
  std::vector<Choice> step(const std::vector<std::size_t>& sequences, const std::vector<Writer*>& writers) {
    std::vector<Worker::StepRow> rows;
    for (std::size_t k = 0; k < sequences.size(); ++k) {
      Writer& writer = *writers[k];
      rows.push_back(
          {sequences[k], writer.result.tokens.back(), writer.next_position++, &writer.sampler, writer.limit});
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

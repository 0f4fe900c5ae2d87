#include <algorithm>
#include <limits>

#include "runtime/kv_storage.h"
#include "runtime/worker.h"

namespace halftone {
namespace {

// Long prompts run in pieces, which bounds the workspace and changes no result.
constexpr std::int64_t kChunk = 512;
// Rows of logits made at once when many are wanted: [rows, vocabulary] stays small.
constexpr std::int64_t kLogitRows = 64;

std::span<const float> row_of(const Tensor& logits, std::int64_t row) {
  return {logits.data<float>() + row * logits.dim(1), static_cast<std::size_t>(logits.dim(1))};
}

class CpuWorker final : public Worker {
 public:
  CpuWorker(std::shared_ptr<const EngineState> engine, ThreadPool& pool)
      : engine_(std::move(engine)), stream_{&pool, Device::kCpu} {}

  std::size_t most_sequences() const override { return std::numeric_limits<std::size_t>::max(); }
  bool reuses_decoded() const override { return true; }
  std::int64_t length(std::size_t sequence) override { return cache(sequence).length(); }
  bool has_room(std::span<const std::size_t>, std::int64_t) override { return true; }

  void keep_prefix(std::size_t sequence, std::size_t donor, std::int64_t length) override {
    if (sequence == donor) {
      cache(sequence).truncate(length);
    } else {
      cache(sequence).copy_prefix(cache(donor), length);
    }
  }

  void prefill(std::size_t sequence, PreparedPrompt& prompt, std::int64_t first_wanted, StageTimes& times,
               const LogitRows& rows) override {
    StoredKvCache& held = cache(sequence);
    const std::int64_t total = static_cast<std::int64_t>(prompt.tokens.size()), begin = held.length();
    const Tensor pictures = encode_pictures(prompt, begin, times);
    const Timer timer;
    Tensor hidden = model().embed(std::span(prompt.tokens).subspan(static_cast<std::size_t>(begin)), pictures);
    for (std::int64_t chunk = begin; chunk < total; chunk += kChunk) {
      const std::int64_t end = std::min(total, chunk + kChunk);
      const auto positions = std::span(prompt.positions.values)
                                 .subspan(static_cast<std::size_t>(chunk), static_cast<std::size_t>(end - chunk));
      const SequenceSlice slice{&held, positions, std::max<std::int64_t>(0, end - std::max(chunk, first_wanted))};
      Tensor part = hidden.rows(chunk - begin, end - begin);
      model().forward({&slice, 1}, part, run());
    }
    times.prefill += timer.seconds();
    const Timer after;
    for (std::int64_t first = std::max(begin, first_wanted); first < total; first += kLogitRows) {
      const std::int64_t end = std::min(total, first + kLogitRows);
      const Tensor logits = model().logits(hidden.rows(first - begin, end - begin), run());
      for (std::int64_t token = first; token < end; ++token) rows(token, row_of(logits, token - first));
    }
    times.first_token += after.seconds();
  }

  std::int64_t most_together() const override { return 0; }

  std::vector<Choice> prefill(std::span<const PromptRun> runs) override {
    std::vector<Choice> choices;
    for (const PromptRun& run : runs) {
      prefill(run.sequence, *run.prompt, std::ssize(run.prompt->tokens) - 1, *run.times,
              [&](std::int64_t, std::span<const float> logits) { choices.push_back(run.sampler->choose(logits)); });
    }
    return choices;
  }

  std::vector<Choice> step(std::span<const StepRow> rows) override {
    std::vector<TokenId> tokens;
    std::vector<Position> positions;
    std::vector<SequenceSlice> slices;
    positions.reserve(rows.size());
    for (const StepRow& row : rows) {
      tokens.push_back(row.token);
      positions.push_back({row.position, row.position, row.position});
      slices.push_back({&cache(row.sequence), std::span(positions).last(1), -1});
    }
    Tensor hidden = model().embed(tokens);
    model().forward(slices, hidden, run());
    const Tensor logits = model().logits(hidden, run());
    std::vector<Choice> choices;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      choices.push_back(rows[i].sampler->choose(row_of(logits, static_cast<std::int64_t>(i))));
    }
    return choices;
  }

  SessionMemory memory() const override {
    std::int64_t tokens = 0;
    for (const auto& cache : caches_) tokens += cache->length();
    return {tokens * engine_->kv_layout()->bytes_per_token(), workspace_.nbytes()};
  }
  void start_profile() override { fail("profile", "ops are timed on a GPU only; choose --device cuda"); }
  std::vector<DeviceOpTime> take_profile() override { return {}; }

 private:
  const Model& model() const { return engine_->model(); }
  RunContext run() { return {stream_, workspace_, nullptr}; }

  StoredKvCache& cache(std::size_t i) {
    while (caches_.size() <= i) caches_.push_back(std::make_unique<StoredKvCache>(engine_->kv_layout()));
    return *caches_[i];
  }

  // The visual tokens of the pictures from the prompt's token `begin` on, [tokens, hidden]; undefined without any.
  Tensor encode_pictures(PreparedPrompt& prompt, std::int64_t begin, StageTimes& times) {
    std::vector<Tensor> encoded;
    std::int64_t visual = 0;
    for (PreparedPrompt::Picture& picture : prompt.pictures) {
      if (picture.begin < begin) continue;
      encoded.push_back(encode(picture, times));
      visual += encoded.back().dim(0);
    }
    if (encoded.size() <= 1) return encoded.empty() ? Tensor() : encoded.front();
    Tensor pictures(DType::kF32, {visual, model().config().decoder.hidden});
    float* target = pictures.data<float>();
    for (const Tensor& one : encoded) target = std::copy_n(one.data<float>(), one.numel(), target);
    return pictures;
  }

  Tensor encode(PreparedPrompt::Picture& picture, StageTimes& times) {
    if (std::optional<Tensor> found = engine_->find_encoded(picture)) return *found;
    const LoadedPicture loaded = engine_->take_picture(picture, *stream_.pool, times);
    const Timer vision;
    const Tensor tokens = model().encode_pictures(loaded.patches, {&picture.grid, 1}, run());
    times.vision += vision.seconds();
    engine_->keep_encoded(picture, tokens);
    return tokens;
  }

  std::shared_ptr<const EngineState> engine_;
  Stream stream_;
  Workspace workspace_;
  std::vector<std::unique_ptr<StoredKvCache>> caches_;
};

}  // namespace

std::unique_ptr<Worker> make_cpu_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool) {
  return std::make_unique<CpuWorker>(std::move(engine), pool);
}

std::unique_ptr<Worker> make_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool) {
  return engine->device_model() ? make_device_worker(std::move(engine), pool)
                                : make_cpu_worker(std::move(engine), pool);
}

}  // namespace halftone

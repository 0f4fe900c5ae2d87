#include <algorithm>
#include <numeric>

#include "model/encoders/vision_positions.h"
#include "runtime/worker.h"

namespace halftone {
namespace {

class DeviceWorker final : public Worker {
 public:
  DeviceWorker(std::shared_ptr<const EngineState> engine, ThreadPool& pool)
      : engine_(std::move(engine)),
        pool_(pool),
        values_(pixel_values(engine_->processor())),
        rotations_(all_rotations(engine_->model().config().decoder)),
        runner_(engine_->device_model()->make_runner(limits_of(*engine_, rotations_))) {}

  std::size_t most_sequences() const override { return static_cast<std::size_t>(engine_->options().device_sequences); }
  bool reuses_decoded() const override { return false; }
  std::int64_t length(std::size_t sequence) override { return runner_->length(sequence); }
  bool has_room(std::span<const std::size_t> sequences, std::int64_t more) override {
    return runner_->has_room(sequences, more);
  }

  void keep_prefix(std::size_t sequence, std::size_t donor, std::int64_t length) override {
    if (sequence == donor) {
      runner_->truncate(sequence, length);
    } else {
      runner_->copy_prefix(donor, sequence, length);
    }
  }

  void prefill(std::size_t sequence, PreparedPrompt& prompt, std::int64_t first_wanted, StageTimes& times,
               const LogitRows& rows) override {
    Part part{sequence, &prompt, &times};
    encode_pictures({&part, 1});
    run_parts(part, first_wanted, [&] {
      const Timer timer;
      const std::int64_t begin = part.end - part.wanted;
      for (std::int64_t first = 0; first < part.wanted; first += runner_->max_logits()) {
        const std::int64_t last = std::min(part.wanted, first + runner_->max_logits());
        const Tensor logits = runner_->logits(first, last);
        for (std::int64_t row = first; row < last; ++row) rows(begin + row, row_of(logits, row - first));
      }
      times.first_token += timer.seconds();
    });
  }

  std::int64_t most_together() const override { return runner_->max_prompt(); }

  std::vector<Choice> prefill(std::span<const PromptRun> runs) override {
    std::vector<Part> parts;
    for (const PromptRun& run : runs) {
      parts.push_back({run.sequence, run.prompt, run.times});
      parts.back().end = std::ssize(run.prompt->tokens);
      parts.back().wanted = 1;
    }
    encode_pictures(parts);
    if (parts.size() > 1) {
      run_together(parts);
    } else {
      run_parts(parts[0], parts[0].end - 1, [] {});
    }
    const Timer timer;
    std::vector<Choice> choices = choose(runs);
    for (const PromptRun& run : runs) run.times->first_token += timer.seconds() / static_cast<double>(runs.size());
    return choices;
  }

  std::vector<Choice> step(std::span<const StepRow> rows) override {
    std::vector<DeviceStepRow> device_rows;
    std::vector<Sampler*> samplers;
    for (const StepRow& row : rows) {
      device_rows.push_back({row.sequence, row.token, row.position, row.sampler->next_draw(), row.limit});
      samplers.push_back(row.sampler);
    }
    return take_choices(runner_->step(device_rows), samplers);
  }

  SessionMemory memory() const override {
    const DeviceMemory memory = runner_->memory();
    return {memory.kv, memory.workspace};
  }
  void start_profile() override { runner_->start_profile(); }
  std::vector<DeviceOpTime> take_profile() override { return runner_->take_profile(); }

 private:
  // Of all positions that there are.
  static RotationTables all_rotations(const DecoderConfig& config) {
    std::vector<Position> positions;
    for (std::int32_t i = 0; i < config.max_positions; ++i) positions.push_back({i, i, i});
    return mrope_tables(config, positions, Numerics::kBF16);
  }

  static DeviceLimits limits_of(const EngineState& engine, const RotationTables& rotations) {
    const DecoderConfig& config = engine.model().config().decoder;
    DeviceLimits limits;
    limits.sequences = engine.options().device_sequences;
    limits.kv_tokens = engine.device_kv_tokens();
    limits.picture_tokens = std::min(config.max_positions, limits.kv_tokens);
    limits.stop_tokens = engine.stop_tokens();
    limits.cos = rotations.cos;
    limits.sin = rotations.sin;
    for (const KvScales& scales : engine.kv_layout()->scales) limits.kv_scales.push_back({scales.k, scales.v});
    if (engine.kv_layout()->storage == KvLayout::Storage::kInt8) limits.kv_codes = Element::kInt8;
    return limits;
  }

  // The tokens [begin, end) of a prompt, of whose last `wanted` ones logits are wanted.
  struct Part {
    std::size_t sequence = 0;
    PreparedPrompt* prompt = nullptr;
    StageTimes* times = nullptr;
    std::int64_t begin = 0, end = 0, wanted = 0;
    // The row of each of the prompt's tokens among the runner's pictures, -1 for text; empty without any.
    std::vector<std::int32_t> picture_rows = {};
  };

  // One prompt in as many passes as it needs, each followed by `after`.
  template <typename After>
  void run_parts(Part& part, std::int64_t first_wanted, const After& after) {
    const auto total = std::ssize(part.prompt->tokens);
    for (std::int64_t begin = part.begin; begin < total; begin = part.end) {
      part.begin = begin;
      part.end = std::min(total, begin + runner_->max_prompt());
      part.wanted = part.end - std::clamp(first_wanted, begin, part.end);
      run_together({&part, 1});
      if (part.wanted > 0) after();
    }
  }

  void run_together(std::span<const Part> parts) {
    const Timer timer;
    std::vector<DevicePrompt> prompts;
    std::int64_t tokens = 0;
    for (const Part& part : parts) {
      const auto first = static_cast<std::size_t>(part.begin), count = static_cast<std::size_t>(part.end - part.begin);
      const RotationTables tables =
          mrope_tables(engine_->model().config().decoder,
                       std::span(part.prompt->positions.values).subspan(first, count), rotations_);
      DevicePrompt& prompt = prompts.emplace_back();
      prompt = {part.sequence,
                std::span(part.prompt->tokens).subspan(first, count),
                {},
                tables.cos,
                tables.sin,
                part.end - part.wanted - part.begin};
      if (!part.picture_rows.empty()) prompt.picture_rows = std::span(part.picture_rows).subspan(first, count);
      tokens += part.end - part.begin;
    }
    runner_->prompt(prompts);
    const double seconds_per_token = timer.seconds() / static_cast<double>(tokens);
    for (const Part& part : parts) {
      part.times->prefill += seconds_per_token * static_cast<double>(part.end - part.begin);
    }
  }

  // What follows the last token of each prompt.
  std::vector<Choice> choose(std::span<const PromptRun> runs) {
    std::vector<TokenDraw> draws;
    std::vector<Sampler*> samplers;
    for (const PromptRun& run : runs) {
      draws.push_back(run.sampler->next_draw());
      samplers.push_back(run.sampler);
    }
    return take_choices(runner_->choices(draws), samplers);
  }

  static std::vector<Choice> take_choices(const std::vector<DeviceChoice>& chosen,
                                          const std::vector<Sampler*>& samplers) {
    std::vector<Choice> choices;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      require(chosen[i].token >= 0, "logits", "expected finite numbers, got NaN or infinity");
      choices.push_back({chosen[i].token, chosen[i].gap});
      samplers[i]->skip();
    }
    return choices;
  }

  static std::span<const float> row_of(const Tensor& logits, std::int64_t row) {
    return {logits.data<float>() + row * logits.dim(1), static_cast<std::size_t>(logits.dim(1))};
  }

  struct WantedPicture {
    Part* part = nullptr;
    PreparedPrompt::Picture* picture = nullptr;
    std::int64_t row = -1;  // its first among the runner's pictures
    bool encoded = false;   // by the vision tower, not before
  };

  // Each part begins behind what the cache holds; runs the pictures from there on. The next ones are decoded and resized
  // while the device runs one.
  void encode_pictures(std::span<Part> parts) {
    runner_->clear_pictures();
    std::vector<WantedPicture> wanted;
    for (Part& part : parts) {
      part.begin = runner_->length(part.sequence);
      for (PreparedPrompt::Picture& picture : part.prompt->pictures) {
        if (picture.begin >= part.begin) wanted.push_back({&part, &picture});
      }
    }
    double seconds = 0;  // of the vision tower, as far as nothing else was waited for
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      begin_loading(std::span(wanted).subspan(i + 1));
      WantedPicture& one = wanted[i];
      const auto same =
          std::find_if(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(i),
                       [&](const WantedPicture& other) { return other.picture->key == one.picture->key; });
      if (same != wanted.begin() + static_cast<std::ptrdiff_t>(i)) {
        one.row = same->row;
      } else {
        const std::optional<Tensor> known = engine_->find_encoded(*one.picture);
        one.encoded = !known;
        one.row = known ? runner_->put_picture(*known) : encode(one, seconds);
      }
      note_rows(one);
    }
    finish_pictures(wanted, seconds);
  }

  void begin_loading(std::span<const WantedPicture> next) {
    constexpr std::size_t kPicturesAhead = 2;
    for (const WantedPicture& one : next.first(std::min(next.size(), kPicturesAhead))) {
      if (!engine_->find_encoded(*one.picture)) engine_->begin_loading(*one.picture);
    }
  }

  // The first of the picture's rows, which the device has filled after finish_pictures().
  std::int64_t encode(const WantedPicture& wanted, double& seconds) {
    PreparedPrompt::Picture& picture = *wanted.picture;
    const LoadedPicture loaded = engine_->take_picture(picture, pool_, *wanted.part->times);
    const Timer timer;
    const RotationTables tables =
        vision_axis_rotations(engine_->model().config().vision, std::max(picture.grid.height, picture.grid.width));
    const Qwen2VlProcessor& processor = engine_->processor();
    const std::int64_t row = runner_->encode_picture({loaded.fitted.rgb.data(),
                                                      loaded.fitted.height,
                                                      loaded.fitted.width,
                                                      processor.patch_size,
                                                      processor.temporal_patch_size,
                                                      processor.merge_size,
                                                      {values_.data()->data(), values_.size() * values_[0].size()},
                                                      tables.cos,
                                                      tables.sin});
    seconds += timer.seconds();
    return row;
  }

  void note_rows(const WantedPicture& wanted) {
    std::vector<std::int32_t>& rows = wanted.part->picture_rows;
    rows.resize(wanted.part->prompt->tokens.size(), -1);
    const auto first = rows.begin() + wanted.picture->begin;
    std::iota(first, first + tokens_of(wanted), static_cast<std::int32_t>(wanted.row));
  }

  // Waits for the vision tower, whose time the pictures share by their sizes, and keeps what it made for later requests.
  void finish_pictures(std::span<const WantedPicture> wanted, double seconds) {
    std::int64_t tokens = 0;
    for (const WantedPicture& one : wanted) tokens += one.encoded ? tokens_of(one) : 0;
    if (tokens == 0) return;
    const Timer timer;
    runner_->finish_pictures();
    const double seconds_per_token = (seconds + timer.seconds()) / static_cast<double>(tokens);
    for (const WantedPicture& one : wanted) {
      if (!one.encoded) continue;
      one.part->times->vision += seconds_per_token * static_cast<double>(tokens_of(one));
      if (engine_->options().picture_cache == nullptr) continue;
      engine_->keep_encoded(*one.picture, runner_->picture_tokens(one.row, one.row + tokens_of(one)));
    }
  }

  std::int64_t tokens_of(const WantedPicture& wanted) const {
    return wanted.picture->grid.tokens(engine_->model().config().vision.merge_size);
  }

  std::shared_ptr<const EngineState> engine_;
  ThreadPool& pool_;
  PixelValues values_;
  const RotationTables rotations_;  // of all positions
  std::unique_ptr<DeviceRunner> runner_;
};

}  // namespace

std::unique_ptr<Worker> make_device_worker(std::shared_ptr<const EngineState> engine, ThreadPool& pool) {
  return std::make_unique<DeviceWorker>(std::move(engine), pool);
}

}  // namespace halftone

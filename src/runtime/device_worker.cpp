#include <algorithm>

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
    const std::int64_t total = static_cast<std::int64_t>(prompt.tokens.size()), begin = runner_->length(sequence);
    const std::vector<std::int32_t> picture_rows = encode_pictures(prompt, begin, times);
    for (std::int64_t chunk = begin; chunk < total; chunk += runner_->max_prompt()) {
      const std::int64_t end = std::min(total, chunk + runner_->max_prompt());
      const std::int64_t wanted = std::clamp(first_wanted, chunk, end);
      run_chunk(sequence, prompt, picture_rows, chunk, end, wanted, times);
      const Timer timer;
      for (std::int64_t first = wanted; first < end; first += runner_->max_logits()) {
        const std::int64_t last = std::min(end, first + runner_->max_logits());
        const Tensor logits = runner_->logits(first - chunk, last - chunk);
        for (std::int64_t token = first; token < last; ++token) {
          rows(token,
               {logits.data<float>() + (token - first) * logits.dim(1), static_cast<std::size_t>(logits.dim(1))});
        }
      }
      times.first_token += timer.seconds();
    }
  }

  std::vector<Choice> step(std::span<const StepRow> rows) override {
    std::vector<DeviceStepRow> device_rows;
    bool greedy = true;
    for (const StepRow& row : rows) {
      device_rows.push_back({row.sequence, row.token, row.position});
      greedy = greedy && row.sampler->greedy();
    }
    const std::vector<DeviceChoice> chosen = runner_->step(device_rows, greedy);
    std::vector<Choice> choices;
    std::vector<float> logits(greedy ? 0 : static_cast<std::size_t>(engine_->model().config().decoder.vocabulary));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (greedy) {
        require(chosen[i].token >= 0, "logits", "expected finite numbers, got NaN or infinity at position {}",
                rows[i].position);
        choices.push_back({chosen[i].token, chosen[i].gap});
      } else {
        runner_->step_logits(static_cast<std::int64_t>(i), logits);
        choices.push_back(rows[i].sampler->choose(logits));
      }
    }
    return choices;
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
    limits.cos = rotations.cos;
    limits.sin = rotations.sin;
    for (const KvScales& scales : engine.kv_layout()->scales) limits.kv_scales.push_back({scales.k, scales.v});
    return limits;
  }

  void run_chunk(std::size_t sequence, const PreparedPrompt& prompt, const std::vector<std::int32_t>& picture_rows,
                 std::int64_t begin, std::int64_t end, std::int64_t wanted, StageTimes& times) {
    const Timer timer;
    const auto first = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(end - begin);
    const RotationTables tables = mrope_tables(engine_->model().config().decoder,
                                               std::span(prompt.positions.values).subspan(first, count), rotations_);
    DevicePrompt call{sequence,      std::span(prompt.tokens).subspan(first, count), {}, tables.cos, tables.sin,
                      wanted - begin};
    if (!picture_rows.empty()) call.picture_rows = std::span(picture_rows).subspan(first, count);
    runner_->prompt(call);
    times.prefill += timer.seconds();
  }

  // Runs the pictures from the prompt's token `begin` on. The row of each token among the runner's pictures, -1 for text;
  // empty without pictures.
  std::vector<std::int32_t> encode_pictures(PreparedPrompt& prompt, std::int64_t begin, StageTimes& times) {
    runner_->clear_pictures();
    std::vector<std::int32_t> rows;
    for (PreparedPrompt::Picture& picture : prompt.pictures) {
      if (picture.begin < begin) continue;
      rows.resize(prompt.tokens.size(), -1);
      const auto row = static_cast<std::int32_t>(encode(picture, times));
      const std::int64_t count = picture.grid.tokens(engine_->model().config().vision.merge_size);
      for (std::int64_t i = 0; i < count; ++i) {
        rows[static_cast<std::size_t>(picture.begin + i)] = row + static_cast<std::int32_t>(i);
      }
    }
    return rows;
  }

  // The first of the picture's rows.
  std::int64_t encode(PreparedPrompt::Picture& picture, StageTimes& times) {
    if (const std::optional<Tensor> found = engine_->find_encoded(picture)) return runner_->put_picture(*found);
    const LoadedPicture loaded = engine_->take_picture(picture, pool_, times);
    const Timer vision;
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
    times.vision += vision.seconds();
    if (engine_->options().picture_cache != nullptr) {
      const std::int64_t count = picture.grid.tokens(engine_->model().config().vision.merge_size);
      engine_->keep_encoded(picture, runner_->picture_tokens(row, row + count));
    }
    return row;
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

#pragma once
// ops/device_model.h on CUDA: the state of one worker.

#include <optional>

#include "backend/cuda/decode_steps.h"
#include "backend/cuda/op_profile.h"
#include "backend/cuda/vision_tower.h"
#include "ops/device_model.h"

namespace halftone::cuda {

// The weights of a model and where they lie.
struct ModelWeights {
  explicit ModelWeights(DeviceArena weights) : arena(std::move(weights)) {}

  DeviceArena arena;
  std::unique_ptr<DeviceDecoder> decoder;
  std::unique_ptr<VisionTower> vision;
  std::int64_t patches_per_token = 4;
};

class CudaRunner final : public DeviceRunner {
 public:
  CudaRunner(std::shared_ptr<const ModelWeights> weights, const DeviceLimits& limits);
  ~CudaRunner() override;

  std::int64_t encode_picture(const DevicePicture& picture) override;
  void finish_pictures() override { stream_.synchronize(); }
  std::int64_t put_picture(const Tensor& tokens) override;
  Tensor picture_tokens(std::int64_t begin, std::int64_t end) override;
  void clear_pictures() override { pictures_held_ = 0; }

  std::int64_t length(std::size_t sequence) const override { return pages_.length(sequence); }
  bool has_room(std::span<const std::size_t> sequences, std::int64_t more) const override;
  void truncate(std::size_t sequence, std::int64_t length) override;
  void copy_prefix(std::size_t from, std::size_t to, std::int64_t length) override;

  void prompt(std::span<const DevicePrompt> prompts) override;
  std::int64_t max_prompt() const override { return sizes_.prompt_rows; }
  Tensor logits(std::int64_t begin, std::int64_t end) override;
  std::vector<DeviceChoice> choices(std::span<const TokenDraw> draws) override;
  std::int64_t max_logits() const override;

  std::vector<DeviceChoice> step(std::span<const DeviceStepRow> rows) override;

  DeviceMemory memory() const override;

  void start_profile() override;
  std::vector<DeviceOpTime> take_profile() override;

 private:
  struct Sizes {
    std::int64_t pages = 0, pages_per_sequence = 0;
    std::int64_t prompt_rows = 0, picture_tokens = 0;  // of prompts that run at once, and of their pictures
    std::size_t kv = 0, workspace = 0, shared = 0;
  };
  static Sizes sizes_of(const ModelWeights& weights, const DeviceLimits& limits);
  static std::size_t decoder_bytes(const ModelWeights& weights, const DeviceLimits& limits, const Sizes& sizes);
  void make_prompt_buffers();
  void make_cache();
  void upload_scales();
  struct Segment;
  std::vector<Segment> place_prompts(std::span<const DevicePrompt> prompts);
  bool load_prompts(std::span<const DevicePrompt> prompts, std::span<const Segment> segments);
  void attend(std::span<const Segment> segments, const DeviceMatrix& qkv, const PagedKv& kv, bool wanted_only,
              const DeviceMatrix& mixed) const;
  void find_logits(std::int64_t begin, std::int64_t end);
  // The keys and values of the first `tokens` tokens of a sequence as a prompt's attention takes them.
  PagedKv prompt_keys(const PagedKv& kv, std::size_t sequence, std::int64_t tokens) const;
  void reserve(std::size_t sequence, std::int64_t tokens);
  void start_step(std::span<const std::size_t> sequences);
  void drain();
  DeviceMatrix take_pictures(std::int64_t count);
  // The picture with its pixels in pinned memory, which waits for the upload of the one before the last.
  DevicePicture stage(const DevicePicture& picture);

  std::shared_ptr<const ModelWeights> weights_;
  const DeviceDecoder& decoder_;
  DeviceLimits limits_;
  Sizes sizes_;
  OpProfile profile_;
  DeviceStream stream_;
  // shared_ is the vision tower's memory or the decoder's, whichever runs: each begins with nothing in it.
  DeviceArena kv_arena_, workspace_, shared_;
  KvPages pages_;
  std::int32_t* page_table_ = nullptr;  // [sequences, pages_per_sequence]
  std::vector<PagedKv> kv_;             // of each layer
  PagedKv unpacked_{};                  // of one sequence and one layer, where the cache holds codes
  VisionTower::Buffers vision_buffers_;
  DeviceDecoder::Buffers buffers_;
  void* packed_keys_ = nullptr;  // of one sequence, for a prompt's attention
  DeviceMatrix pictures_;        // [picture_tokens, hidden]
  std::int64_t pictures_held_ = 0;
  DeviceMatrix wanted_;  // the hidden states of the last prompts' wanted tokens, until something else runs
  struct StagedPixels {
    std::optional<PinnedMemory> memory;
    std::size_t capacity = 0;
    DeviceEvent uploaded;
  };
  StagedPixels staged_[2];
  int turn_ = 0;  // which one holds the newest
  struct PromptInputs {
    std::int32_t *tokens = nullptr, *picture_rows = nullptr, *sequences = nullptr, *slots = nullptr, *wanted = nullptr;
    float *cos = nullptr, *sin = nullptr;
  };
  PromptInputs inputs_;
  std::unique_ptr<DecodeSteps> steps_;
  std::vector<DeviceStepRow> next_;  // the rows of the oldest step under way
  struct FirstTokens {
    TokenChooser chooser;
    std::int32_t* tokens = nullptr;
    float* gaps = nullptr;
  };
  std::unique_ptr<FirstTokens> first_tokens_;
  PinnedMemory logits_;  // [max_logits, vocabulary] f32
};

}  // namespace halftone::cuda

#pragma once
// What an Engine consists of. Immutable after load, but for memories that change no result: sizes of pictures seen,
// hashes.

#include <future>
#include <mutex>
#include <unordered_map>

#include "base/timer.h"
#include "model/model.h"
#include "ops/device_model.h"
#include "runtime/engine.h"
#include "runtime/kv_storage.h"
#include "runtime/picture_cache.h"
#include "vision/picture.h"

namespace halftone {

// A picture on its way into the model.
struct LoadedPicture {
  PictureGrid grid;
  Tensor patches;  // [patches, columns] f32, on the CPU alone
  Picture fitted;  // on a device alone, which cuts it itself
  double decode_seconds = 0, resize_seconds = 0;
};

// A prompt as the model takes it.
struct PreparedPrompt {
  struct Picture {
    std::shared_ptr<const PictureFile> file;
    std::string key;         // of content, pixel budget and vision weights
    std::int64_t begin = 0;  // of its first visual token
    PictureGrid grid;
    std::optional<LoadedPicture> loaded;  // when only the whole file told its size
    std::future<LoadedPicture> loading;   // since begin_loading()
  };
  std::vector<TokenId> tokens;
  std::vector<Picture> pictures;
  Positions positions;
};

class EngineState final : public Engine {
 public:
  EngineState(const std::filesystem::path& folder, const EngineOptions& options);

  const EngineInfo& info() const override;
  const std::shared_ptr<const Tokenizer>& tokenizer() const override { return tokenizer_; }
  std::vector<TokenId> tokenize(const Prompt& prompt) const override;

  const EngineOptions& options() const { return options_; }
  const Model& model() const { return model_; }
  const std::shared_ptr<const KvLayout>& kv_layout() const { return kv_layout_; }
  const std::vector<TokenId>& stop_tokens() const { return stop_tokens_; }
  // Throws Error for a prompt without text, with pictures that do not fit its messages, or longer than the model's
  // positions.
  PreparedPrompt prepare(const Prompt& prompt, ThreadPool& pool) const;
  // The positions of tokens without pictures; checks ids and length.
  PreparedPrompt prepare_tokens(std::span<const TokenId> tokens) const;
  LoadedPicture load_picture_file(const PictureFile& file, ThreadPool& pool) const;
  // The vision tower's output as keep_encoded() took it, where there is a cache that holds it.
  std::optional<Tensor> find_encoded(const PreparedPrompt::Picture& picture) const;
  void keep_encoded(const PreparedPrompt::Picture& picture, const Tensor& tokens) const;
  // Decodes and resizes the picture on another thread, for a take_picture() that comes later.
  void begin_loading(PreparedPrompt::Picture& picture) const;
  // The picture's patches; they are not kept. Adds to `times` what was waited for them.
  LoadedPicture take_picture(PreparedPrompt::Picture& picture, ThreadPool& pool, StageTimes& times) const;

  const Qwen2VlProcessor& processor() const { return processor_; }
  // Null on the CPU, where model() has the weights; on a device it packs no linear layer.
  const std::shared_ptr<const DeviceModel>& device_model() const { return device_model_; }
  // Tokens that the caches of a session on a device hold together.
  std::int64_t device_kv_tokens() const;

 private:
  void check_length(std::int64_t tokens) const;
  PictureGrid grid_of(PreparedPrompt::Picture& picture, ThreadPool& pool) const;
  void expand(const Prompt& prompt, PreparedPrompt& prepared, ThreadPool& pool) const;

  Timer timer_;  // begins before anything is loaded
  EngineOptions options_;
  Checkpoint checkpoint_;
  std::future<std::shared_ptr<const Tokenizer>> tokenizer_loading_;  // until the weights are there
  std::shared_ptr<const Tokenizer> tokenizer_;
  ChatTemplate template_;
  Qwen2VlProcessor processor_;
  Model model_;
  std::shared_ptr<const DeviceModel> device_model_;
  std::shared_ptr<const KvLayout> kv_layout_;
  std::vector<TokenId> stop_tokens_;
  std::string picture_key_suffix_;  // budget, processor, vision weights, numerics
  mutable EngineInfo info_;
  mutable std::once_flag hashed_;
  mutable std::mutex grids_mutex_;
  mutable std::unordered_map<std::string, PictureGrid> grids_;  // by hash of the file
};

}  // namespace halftone

#include <algorithm>

#include "model/device_source.h"
#include "ops/instruction_set.h"
#include "ops/numerics_name.h"
#include "runtime/engine_state.h"

namespace halftone {
namespace {

constexpr std::size_t kMaxRememberedGrids = 1 << 16;

Model load_model(const Checkpoint& checkpoint, const EngineOptions& options) {
  // on a device, which takes the weights from here, they are not packed for the CPU
  const ModelOptions model{options.numerics, true, options.device != Device::kCpu};
  if (options.threads == 0) return Model::load(checkpoint, model, default_stream());
  ThreadPool pool(options.threads);
  Stream stream{&pool, Device::kCpu};
  return Model::load(checkpoint, model, stream);
}

// Patches of the largest picture.
std::int64_t most_patches(const Qwen2VlProcessor& processor) {
  // as many as 2,240 x 1,680 pixels and some; the workspace grows with them
  constexpr std::int64_t kMost = 20480;
  const std::int64_t area = processor.patch_size * processor.patch_size;
  return std::clamp(processor.budget.max_pixels / area, processor.merge_size * processor.merge_size, kMost);
}

std::shared_ptr<const DeviceModel> load_on_device(const Model& model, const EngineOptions& options,
                                                  const Qwen2VlProcessor& processor, const std::string& folder) {
  if (options.device == Device::kCpu) return nullptr;
  require(options.numerics == Numerics::kBF16, folder, "a GPU computes with numerics bf16, got {}",
          to_string(options.numerics));
  return make_cuda_model(device_decoder_source(model), device_vision_source(model), most_patches(processor),
                         options.threads);
}

std::vector<Tensor> key_biases(const Model& model) {
  std::vector<Tensor> biases;
  for (std::int64_t i = 0; i < model.config().decoder.layers; ++i) biases.push_back(model.key_bias(i));
  return biases;
}

// generation_config.json's, else config.json's, else the tokenizer's own ends.
std::vector<TokenId> find_stop_tokens(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const Tokenizer& tokenizer) {
  const std::filesystem::path path = checkpoint.folder() / "generation_config.json";
  std::vector<TokenId> stops;
  if (std::filesystem::exists(path)) {
    const Json settings = read_json(path);
    if (settings.is_object() && settings.contains("eos_token_id") && !settings["eos_token_id"].is_null()) {
      const Json& value = settings["eos_token_id"];
      const Json list = value.is_array() ? value : Json::array({value});
      for (const Json& id : list) {
        require(id.is_number_unsigned() && id.get<std::uint64_t>() <= INT32_MAX, path.string(),
                "field 'eos_token_id': expected token ids, found {}", value.dump().substr(0, 80));
        stops.push_back(id.get<TokenId>());
      }
    }
  }
  if (stops.empty()) stops = config.stop_tokens;
  if (stops.empty()) {
    for (const std::string_view end : {"<|im_end|>", "<|endoftext|>"}) {
      if (const auto id = tokenizer.find(end)) stops.push_back(*id);
    }
  }
  return stops;
}

// Whatever of the preparation and the vision tower is not in the picture's own bytes.
std::string picture_key_suffix(const Qwen2VlProcessor& processor, const VisionConfig& vision, Numerics numerics,
                               const std::string& weights_hash) {
  return fmt::format("|{}..{}|{} {} {}|{} {}|{} {} {} {}|{} {} {}|{}|{}", processor.budget.min_pixels,
                     processor.budget.max_pixels, processor.patch_size, processor.temporal_patch_size,
                     processor.merge_size, fmt::join(processor.mean, ","), fmt::join(processor.std, ","),
                     processor.rescale_factor, processor.do_resize, processor.do_rescale, processor.do_normalize,
                     vision.heads, vision.depth, vision.rope_theta, to_string(numerics), weights_hash);
}

std::string vision_prefix(const Model& model) {
  const std::string& stored = model.module("visual.patch_embed.proj").stored;
  return stored.substr(0, stored.size() - std::string_view("patch_embed.proj").size());
}

}  // namespace

std::shared_ptr<const Engine> Engine::load(const std::filesystem::path& checkpoint, const EngineOptions& options) {
  return std::make_shared<EngineState>(checkpoint, options);
}

EngineState::EngineState(const std::filesystem::path& folder, const EngineOptions& options)
    : options_(options),
      checkpoint_(Checkpoint::open(folder)),
      tokenizer_loading_(Tokenizer::begin_loading(folder)),
      template_(ChatTemplate::load(folder)),
      processor_(Qwen2VlProcessor::load(folder)),
      model_(load_model(checkpoint_, options)) {
  const ModelConfig& config = model_.config();
  if (options.budget) processor_.budget = *options.budget;
  require(processor_.patch_size == config.vision.patch_size && processor_.merge_size == config.vision.merge_size &&
              processor_.temporal_patch_size == config.vision.temporal_patch_size,
          (folder / "preprocessor_config.json").string(),
          "expected patches of {} x {} x {} merged by {}, found {} x {} x {} merged by {}",
          config.vision.temporal_patch_size, config.vision.patch_size, config.vision.patch_size,
          config.vision.merge_size, processor_.temporal_patch_size, processor_.patch_size, processor_.patch_size,
          processor_.merge_size);
  kv_layout_ = std::make_shared<KvLayout>(
      make_kv_layout(options.kv_format, load_kv_quantization(checkpoint_, config.decoder.layers), config.decoder,
                     options.numerics, key_biases(model_), folder.string()));
  device_model_ = load_on_device(model_, options, processor_, folder.string());
  require(device_model_ == nullptr || kv_layout_->key_bias.empty(), folder.string(),
          "a GPU has no KV cache without the keys' bias so far, got {}; choose another --kv", kv_layout_->format);
  tokenizer_ = tokenizer_loading_.get();
  stop_tokens_ = find_stop_tokens(checkpoint_, config, *tokenizer_);
  if (options.picture_cache != nullptr) {
    picture_key_suffix_ = device_model_ ? device_model_->device_name() : "";
    picture_key_suffix_ += picture_key_suffix(processor_, config.vision, options.numerics,
                                              checkpoint_.content_hash(vision_prefix(model_)));
  }
  info_.checkpoint = std::filesystem::weakly_canonical(folder).filename().string();
  info_.numerics = to_string(options.numerics);
  info_.kv_format = kv_layout_->format;
  info_.products = device_model_ || model_.products_native() ? "native" : "emulated";
  info_.instruction_set = device_model_ ? device_model_->device_name() : instruction_set();
  info_.budget = processor_.budget;
  info_.vocabulary = config.decoder.vocabulary;
  info_.memory = {model_.weight_bytes(), kv_layout_->bytes_per_token()};
  if (device_model_) info_.device_loading = device_model_->loading();
  info_.load_seconds = timer_.seconds();
}

Json to_json(const EngineInfo& info) {
  return {{"checkpoint", info.checkpoint},
          {"weights", info.weights_hash},
          {"files", info.files_hash},
          {"numerics", info.numerics},
          {"kv", info.kv_format},
          {"products", info.products},
          {"instruction_set", info.instruction_set},
          {"min_pixels", info.budget.min_pixels},
          {"max_pixels", info.budget.max_pixels}};
}

const EngineInfo& EngineState::info() const {
  // hashing reads every weight: only for those who record results
  std::call_once(hashed_, [&] {
    info_.weights_hash = checkpoint_.content_hash();
    info_.files_hash = checkpoint_.files_hash();
    info_.vision_hash = checkpoint_.content_hash(vision_prefix(model_));
  });
  return info_;
}

std::int64_t EngineState::device_kv_tokens() const {
  // enough for one sequence of any length, or for many of a few thousand tokens
  constexpr std::int64_t kTokens = 65536;
  if (options_.device_kv_tokens > 0) return options_.device_kv_tokens;
  return std::max(kTokens, model_.config().decoder.max_positions);
}

void EngineState::check_length(std::int64_t tokens) const {
  const std::int64_t limit = model_.config().decoder.max_positions;
  require(tokens >= 1, "prompt", "expected at least one token, got none");
  require(tokens <= limit, "prompt", "expected at most {} tokens (max_position_embeddings), got {}", limit, tokens);
}

LoadedPicture EngineState::load_picture_file(const PictureFile& file, ThreadPool& pool) const {
  LoadedPicture loaded;
  const Timer decode;
  const Picture picture = decode_picture(std::as_bytes(std::span(file.bytes)), file.source);
  loaded.decode_seconds = decode.seconds();
  const Timer resize;
  loaded.fitted = fit_picture(picture, processor_, pool);
  loaded.grid = {1, loaded.fitted.height / processor_.patch_size, loaded.fitted.width / processor_.patch_size};
  if (device_model_) {
    require(loaded.grid.patches() <= most_patches(processor_), file.source,
            "expected a picture of up to {} patches of {} x {} pixels on a GPU, got {}; lower the largest picture area "
            "(--max-pixels)",
            most_patches(processor_), processor_.patch_size, processor_.patch_size, loaded.grid.patches());
  } else {
    const PatchedPicture patched = cut_patches(loaded.fitted, processor_, pool);
    loaded.patches = Tensor::from(patched.patches, {loaded.grid.patches(), patched.columns});
    loaded.fitted = {};
  }
  loaded.resize_seconds = resize.seconds();
  return loaded;
}

PictureGrid EngineState::grid_of(PreparedPrompt::Picture& picture, ThreadPool& pool) const {
  {
    const std::lock_guard lock(grids_mutex_);
    const auto it = grids_.find(picture.file->hash);
    if (it != grids_.end()) return it->second;
  }
  PictureGrid grid;
  if (const auto size = find_picture_size(std::as_bytes(std::span(picture.file->bytes)), picture.file->source)) {
    const PictureSize fitted = fitted_size(*size, processor_);
    grid = {1, fitted.height / processor_.patch_size, fitted.width / processor_.patch_size};
  } else {
    picture.loaded = load_picture_file(*picture.file, pool);
    grid = picture.loaded->grid;
  }
  const std::lock_guard lock(grids_mutex_);
  if (grids_.size() >= kMaxRememberedGrids) grids_.clear();
  grids_.emplace(picture.file->hash, grid);
  return grid;
}

// Repeats each placeholder for the tokens of its picture.
void EngineState::expand(const Prompt& prompt, PreparedPrompt& prepared, ThreadPool& pool) const {
  const ModelConfig& config = model_.config();
  const std::vector<TokenId> ids = tokenizer_->encode(template_.render(prompt.messages));
  for (const TokenId id : ids) {
    if (id != config.picture_token) {
      prepared.tokens.push_back(id);
      continue;
    }
    const std::size_t i = prepared.pictures.size();
    require(i < prompt.pictures.size(), "prompt", "expected a picture for each placeholder, got {} pictures",
            prompt.pictures.size());
    require(prompt.pictures[i] != nullptr, "prompt", "expected a picture, got none as number {}", i + 1);
    PreparedPrompt::Picture picture;
    picture.file = prompt.pictures[i];
    picture.key = picture.file->hash + picture_key_suffix_;
    picture.begin = static_cast<std::int64_t>(prepared.tokens.size());
    picture.grid = grid_of(picture, pool);
    const std::int64_t count = picture.grid.tokens(config.vision.merge_size);
    check_length(picture.begin + count);
    prepared.tokens.insert(prepared.tokens.end(), static_cast<std::size_t>(count), config.picture_token);
    prepared.pictures.push_back(std::move(picture));
  }
  require(prepared.pictures.size() == prompt.pictures.size(), "prompt", "expected {} pictures in the messages, got {}",
          prompt.pictures.size(), prepared.pictures.size());
}

PreparedPrompt EngineState::prepare(const Prompt& prompt, ThreadPool& pool) const {
  if (prompt.messages.empty()) {
    require(prompt.pictures.empty(), "prompt", "expected no pictures beside a raw text, got {}",
            prompt.pictures.size());
    return prepare_tokens(tokenizer_->encode(prompt.raw_text));
  }
  PreparedPrompt prepared;
  expand(prompt, prepared, pool);
  check_length(static_cast<std::int64_t>(prepared.tokens.size()));
  std::vector<PictureGrid> grids;
  for (const PreparedPrompt::Picture& picture : prepared.pictures) grids.push_back(picture.grid);
  prepared.positions =
      mrope_positions(prepared.tokens, model_.config().picture_token, grids, model_.config().vision.merge_size);
  return prepared;
}

PreparedPrompt EngineState::prepare_tokens(std::span<const TokenId> tokens) const {
  check_length(static_cast<std::int64_t>(tokens.size()));
  PreparedPrompt prepared;
  prepared.tokens.assign(tokens.begin(), tokens.end());
  for (const TokenId token : tokens) {
    require(token >= 0 && token < info_.vocabulary, "prompt", "expected token ids below {}, got {}", info_.vocabulary,
            token);
    // a placeholder without a picture is a token like any other
    prepared.positions.values.push_back({prepared.positions.next, prepared.positions.next, prepared.positions.next});
    ++prepared.positions.next;
  }
  return prepared;
}

std::optional<Tensor> EngineState::find_encoded(const PreparedPrompt::Picture& picture) const {
  if (options_.picture_cache == nullptr) return {};
  const auto found = options_.picture_cache->find(picture.key);
  return found ? std::optional(found->tokens) : std::nullopt;
}

void EngineState::keep_encoded(const PreparedPrompt::Picture& picture, const Tensor& tokens) const {
  if (options_.picture_cache != nullptr) options_.picture_cache->insert(picture.key, {picture.grid, tokens});
}

void EngineState::begin_loading(PreparedPrompt::Picture& picture) const {
  if (picture.loaded || picture.loading.valid()) return;
  picture.loading = std::async(std::launch::async, [this, file = picture.file] {
    ThreadPool pool(1);  // the session's is not shared
    return load_picture_file(*file, pool);
  });
}

LoadedPicture EngineState::take_picture(PreparedPrompt::Picture& picture, ThreadPool& pool, StageTimes& times) const {
  const Timer timer;
  const bool begun = picture.loading.valid();
  LoadedPicture loaded = begun            ? picture.loading.get()
                         : picture.loaded ? std::move(*picture.loaded)
                                          : load_picture_file(*picture.file, pool);
  picture.loaded.reset();
  require(loaded.grid == picture.grid, picture.file->source, "expected {} x {} patches as its size says, got {} x {}",
          picture.grid.height, picture.grid.width, loaded.grid.height, loaded.grid.width);
  const double work = loaded.decode_seconds + loaded.resize_seconds;
  const double waited = begun && work > 0 ? std::min(1.0, timer.seconds() / work) : 1.0;
  times.picture_decode += waited * loaded.decode_seconds;
  times.resize += waited * loaded.resize_seconds;
  return loaded;
}

std::vector<TokenId> EngineState::tokenize(const Prompt& prompt) const {
  ThreadPool pool(1);
  return prepare(prompt, pool).tokens;
}

}  // namespace halftone

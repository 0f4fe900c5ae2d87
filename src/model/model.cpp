#include "model/model.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "formats/bf16.h"
#include "formats/f16.h"
#include "model/registry.h"

namespace halftone {

struct Model::State {
  ModelOptions options;
  ModelConfig config;
  Weights weights;
  Tensor embedding;  // [vocabulary, hidden] as stored
  std::unique_ptr<Encoder> encoder;
  std::unique_ptr<Projector> projector;
  std::unique_ptr<Decoder> decoder;

  void visit(const LayerVisitor& visitor) {
    for (Part* part :
         {static_cast<Part*>(encoder.get()), static_cast<Part*>(projector.get()), static_cast<Part*>(decoder.get())}) {
      if (part != nullptr) part->visit(visitor);
    }
  }
};

namespace {

constexpr std::string_view kEmbedding = "model.embed_tokens";

// One row of a floating-point matrix as f32.
void copy_row(const Tensor& table, std::int64_t row, float* target) {
  const std::int64_t width = table.dim(1);
  switch (table.dtype()) {
    case DType::kF32:
      std::copy_n(table.data<float>() + row * width, width, target);
      return;
    case DType::kBF16:
      for (std::int64_t i = 0; i < width; ++i) target[i] = bf16::decode(table.bits<std::uint16_t>()[row * width + i]);
      return;
    default:
      for (std::int64_t i = 0; i < width; ++i) target[i] = f16::decode(table.bits<std::uint16_t>()[row * width + i]);
  }
}

bool is_vision(RuleClass rule_class) { return rule_class == RuleClass::kVision || rule_class == RuleClass::kProjector; }

// By format, as Model::weight_bytes() has them.
std::map<std::string, std::int64_t> bytes_of(const Weights& weights, const ModuleInfo& info) {
  std::map<std::string, std::int64_t> bytes;
  const std::string part = is_vision(info.rule_class)                 ? " (vision)"
                           : info.rule_class == RuleClass::kEmbedding ? " (embedding)"
                           : info.rule_class == RuleClass::kHead      ? " (head)"
                           : info.rule_class == RuleClass::kNorm      ? " (norms)"
                                                                      : "";
  if (info.linear) {
    const LinearParts linear = weights.linear(info.module);
    bytes[to_string(linear.weight.spec) + part] = linear.weight.payload.nbytes();
    if (linear.weight.scales.defined()) bytes["scales"] = linear.weight.scales.nbytes();
    return bytes;
  }
  const Tensor weight = weights.stored_weight(info.module);
  const bool table = info.rule_class == RuleClass::kEmbedding;
  bytes[(table ? to_string(wrap_unquantized(weight).spec) : "f32") + part] =
      table ? weight.nbytes() : weight.numel() * std::int64_t{sizeof(float)};
  return bytes;
}

}  // namespace

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::load(const Checkpoint& checkpoint, const ModelOptions& options, Stream& stream) {
  const Architecture& architecture = find_architecture(checkpoint);
  ModelConfig config = architecture.read_config(checkpoint);
  Weights weights(checkpoint, resolve_modules(architecture.table(config), checkpoint), options.numerics);
  weights.defer(options.lazy);
  auto state = std::make_unique<State>(State{options, std::move(config), std::move(weights), {}, {}, {}, {}});
  state->embedding = state->weights.stored_weight(kEmbedding);
  if (options.vision) {
    const VisionConfig& vision = state->config.vision;
    state->encoder = architecture.make_encoder(vision, state->weights, options.numerics, stream);
    state->projector = architecture.make_projector(vision, state->weights, options.numerics, stream);
  }
  state->decoder = architecture.make_decoder(state->config.decoder, state->weights, options.numerics, stream);
  return Model(std::move(state));
}

const ModelConfig& Model::config() const { return state_->config; }
Numerics Model::numerics() const { return state_->options.numerics; }
const std::vector<ModuleInfo>& Model::modules() const { return state_->weights.modules(); }
const ModuleInfo& Model::module(std::string_view name) const { return state_->weights.info(name); }

Tensor Model::encode_pictures(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const {
  require(state_->encoder != nullptr, "encode_pictures", "the model was loaded without its vision tower");
  return state_->projector->project(state_->encoder->encode(patches, grids, run), run);
}

void Model::load_layers(std::string_view prefix, Stream& stream) {
  state_->visit({[&](Linear& layer) {
                   if (layer.modules().front().starts_with(prefix)) layer.load(state_->weights, stream);
                 },
                 [](Norm&) {}});
}

void Model::drop_layers(std::string_view prefix) {
  state_->visit({[&](Linear& layer) {
                   if (layer.modules().front().starts_with(prefix)) layer.unload();
                 },
                 [](Norm&) {}});
}

std::int64_t Model::vision_blocks() const { return state_->config.vision.depth; }

Tensor Model::start_pictures(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const {
  require(state_->encoder != nullptr, "encode_pictures", "the model was loaded without its vision tower");
  return state_->encoder->start(patches, grids, run);
}

void Model::run_vision_block(std::int64_t block, std::span<const PictureGrid> grids, Tensor& x, RunContext run) const {
  state_->encoder->run_block(block, grids, x, run);
}

Tensor Model::project_pictures(const Tensor& x, RunContext run) const { return state_->projector->project(x, run); }

Tensor Model::embed(std::span<const std::int32_t> tokens, const Tensor& pictures) const {
  const std::int64_t width = state_->config.decoder.hidden, visual = pictures.defined() ? pictures.dim(0) : 0;
  require(visual == 0 || pictures.dim(1) == width, "embed", "expected pictures of width {}, got {}", width,
          to_string(pictures.defined() ? pictures.shape() : Shape{}));
  Tensor hidden(DType::kF32, {static_cast<std::int64_t>(tokens.size()), width});
  float* target = hidden.data<float>();
  std::int64_t used = 0;
  for (const std::int32_t token : tokens) {
    require(token >= 0 && token < state_->config.decoder.vocabulary, "embed", "expected a token below {}, got {}",
            state_->config.decoder.vocabulary, token);
    if (token == state_->config.picture_token && visual > 0) {
      require(used < visual, "embed", "expected {} picture tokens, found more", visual);
      std::copy_n(pictures.data<float>() + used++ * width, width, target);
    } else {
      copy_row(state_->embedding, token, target);
    }
    target += width;
  }
  require(used == visual, "embed", "expected {} picture tokens, found {}", visual, used);
  return hidden;
}

RotationTables Model::begin_slices(std::span<const SequenceSlice> slices) const {
  std::vector<Position> positions;
  for (const SequenceSlice& slice : slices) {
    positions.insert(positions.end(), slice.positions.begin(), slice.positions.end());
  }
  RotationTables rotation = mrope_tables(state_->config.decoder, positions, state_->options.numerics);
  std::int64_t begin = 0;
  for (const SequenceSlice& slice : slices) {
    const std::int64_t end = begin + slice.tokens();
    slice.cache->begin(rotation.cos.rows(begin, end), rotation.sin.rows(begin, end));
    begin = end;
  }
  return rotation;
}

void Model::forward_layer(std::int64_t layer, std::span<const SequenceSlice> slices, const RotationTables& rotation,
                          Tensor& hidden, RunContext run) const {
  if (hidden.shape() != Shape{rotation.cos.dim(0), state_->config.decoder.hidden}) {
    fail("forward", "expected hidden [{}, {}], got {}", rotation.cos.dim(0), state_->config.decoder.hidden,
         to_string(hidden.shape()));
  }
  state_->decoder->run_layer(layer, slices, rotation, hidden, run);
}

void Model::forward(std::span<const SequenceSlice> slices, Tensor& hidden, RunContext run) const {
  const RotationTables rotation = begin_slices(slices);
  run.tell_output(kEmbedding, hidden);
  for (std::int64_t i = 0; i < state_->config.decoder.layers; ++i) forward_layer(i, slices, rotation, hidden, run);
  for (const SequenceSlice& slice : slices) slice.cache->commit();
}

Tensor Model::logits(const Tensor& hidden, RunContext run) const { return state_->decoder->logits(hidden, run); }

void Model::replace_linears(const std::map<std::string, LinearParts>& parts, Stream& stream) {
  for (const auto& [module, part] : parts) state_->weights.replace(module, part);
  state_->visit({[&](Linear& layer) {
                   const auto& modules = layer.modules();
                   if (std::any_of(modules.begin(), modules.end(), [&](const auto& m) { return parts.contains(m); })) {
                     layer.load(state_->weights, stream);
                   }
                 },
                 [](Norm&) {}});
}

void Model::replace_linear(const std::string& module, LinearParts parts, Stream& stream) {
  replace_linears({{module, std::move(parts)}}, stream);
}

void Model::replace_weight(const std::string& module, const Tensor& weight) {
  require(module == kEmbedding || module != "visual.patch_embed.proj", module, "cannot be replaced in memory");
  state_->weights.replace(module, weight);
  if (module == kEmbedding) state_->embedding = state_->weights.stored_weight(module);
  state_->visit({[](Linear&) {},
                 [&](Norm& norm) {
                   if (norm.module() == module) norm.load(state_->weights);
                 }});
}

LinearParts Model::linear_parts(std::string_view module) const { return state_->weights.linear(module); }
Tensor Model::norm_weight(std::string_view module) const { return state_->weights.weight(module); }
Tensor Model::norm_bias(std::string_view module) const { return state_->weights.bias(module); }
Tensor Model::stored_weight(std::string_view module) const { return state_->weights.stored_weight(module); }

Tensor Model::key_bias(std::int64_t layer) const {
  const Tensor bias = state_->weights.bias(fmt::format("model.layers.{}.self_attn.k_proj", layer));
  const DecoderConfig& config = state_->config.decoder;
  return bias.defined() ? bias : Tensor::zeros(DType::kF32, {config.kv_heads * config.head_dim});
}

std::vector<std::pair<std::string, std::int64_t>> Model::weight_bytes() const {
  std::vector<std::map<std::string, std::int64_t>> of_modules(modules().size());
  // some layouts are unpacked before they say what they hold: a few modules at a time
  constexpr int kModulesAtOnce = 4;
  ThreadPool pool(kModulesAtOnce);
  pool.parallel_for(std::ssize(of_modules), [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const ModuleInfo& info = modules()[at];
    if (!is_vision(info.rule_class) || state_->options.vision) of_modules[at] = bytes_of(state_->weights, info);
  });
  std::map<std::string, std::int64_t> bytes;
  for (const auto& of_module : of_modules) {
    for (const auto& [name, count] : of_module) bytes[name] += count;
  }
  return {bytes.begin(), bytes.end()};
}

bool Model::products_native() const {
  bool native = true;
  state_->visit({[&](Linear& layer) { native = native && layer.native(); }, [](Norm&) {}});
  return native;
}

}  // namespace halftone

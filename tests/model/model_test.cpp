// What a Model promises beside its numbers: the same bits however the tokens come, weights that can be replaced,
// observers.

#include "model/model.h"

#include <gmock/gmock.h>

#include "model/device_source.h"
#include "tests/model/golden.h"

namespace halftone {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden";

Model load(const char* folder, Numerics numerics = Numerics::kF32) {
  return Model::load(Checkpoint::open(kGolden / folder), {numerics, true}, default_stream());
}

std::vector<float> values_of(const Tensor& tensor) {
  return {tensor.data<float>(), tensor.data<float>() + tensor.numel()};
}

PlainKvCache cache_for(const Model& model) {
  const DecoderConfig& config = model.config().decoder;
  return PlainKvCache(config.layers, config.kv_heads, config.head_dim);
}

const std::vector<std::int32_t> kTokens{0, 3, 20, 21, 30, 31, 32, 33, 34, 35, 36, 40, 41};

// Logits of the last `rows` tokens after running kTokens in pieces of `piece`.
std::vector<float> run_in_pieces(const Model& model, std::size_t piece, std::int64_t rows,
                                 ModelObserver* observer = nullptr) {
  Workspace workspace;
  const RunContext run{default_stream(), workspace, observer};
  PlainKvCache cache = cache_for(model);
  const Positions positions = mrope_positions(kTokens, model.config().picture_token, {}, 2);
  Tensor hidden = model.embed(kTokens);
  for (std::size_t begin = 0; begin < kTokens.size(); begin += piece) {
    const std::size_t end = std::min(kTokens.size(), begin + piece);
    const SequenceSlice slice{&cache, std::span(positions.values).subspan(begin, end - begin)};
    Tensor part = hidden.rows(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end));
    model.forward({&slice, 1}, part, run);
  }
  return values_of(model.logits(hidden.rows(hidden.dim(0) - rows, hidden.dim(0)), run));
}

class ModelBits : public ::testing::TestWithParam<std::tuple<const char*, Numerics>> {};

TEST_P(ModelBits, DoNotDependOnHowTokensArrive) {
  const Model model = load(std::get<0>(GetParam()), std::get<1>(GetParam()));
  const std::vector<float> whole = run_in_pieces(model, kTokens.size(), 5);
  EXPECT_EQ(run_in_pieces(model, 1, 5), whole);
  EXPECT_EQ(run_in_pieces(model, 4, 5), whole);
}

TEST_P(ModelBits, DoNotDependOnTheBatch) {
  const Model model = load(std::get<0>(GetParam()), std::get<1>(GetParam()));
  Workspace workspace;
  const RunContext run{default_stream(), workspace};
  const Positions positions = mrope_positions(kTokens, model.config().picture_token, {}, 2);
  PlainKvCache one = cache_for(model), two = cache_for(model);
  // the second sequence is the first without its beginning
  const std::size_t skipped = 3;
  std::vector<std::int32_t> tokens = kTokens;
  tokens.insert(tokens.end(), kTokens.begin() + skipped, kTokens.end());
  const Positions other = mrope_positions(std::span(kTokens).subspan(skipped), model.config().picture_token, {}, 2);
  const SequenceSlice slices[] = {{&one, positions.values}, {&two, other.values}};
  Tensor hidden = model.embed(tokens);
  model.forward(slices, hidden, run);
  const auto n = static_cast<std::int64_t>(kTokens.size());
  EXPECT_EQ(values_of(model.logits(hidden.rows(n - 5, n), run)), run_in_pieces(model, kTokens.size(), 5));
}

INSTANTIATE_TEST_SUITE_P(Models, ModelBits,
                         ::testing::Combine(::testing::Values("tiny_untied_f16", "tiny_tied_f32", "tiny_mha_bf16"),
                                            ::testing::Values(Numerics::kF32, Numerics::kBF16)));

TEST(Model, ReplacedWeightsAreUsed) {
  Model model = load("tiny_untied_f16");
  const std::vector<float> before = run_in_pieces(model, kTokens.size(), 1);
  const std::string module = "model.layers.1.self_attn.k_proj";
  LinearParts parts = model.linear_parts(module), changed = parts;
  changed.weight = wrap_unquantized(Tensor::zeros(DType::kF32, parts.weight.shape));  // no longer fused with q and v
  model.replace_linear(module, changed, default_stream());
  EXPECT_NE(run_in_pieces(model, kTokens.size(), 1), before);
  model.replace_linear(module, parts, default_stream());
  EXPECT_EQ(run_in_pieces(model, kTokens.size(), 1), before);
  const Tensor norm = model.norm_weight("model.layers.2.input_layernorm");
  model.replace_weight("model.layers.2.input_layernorm", Tensor::zeros(DType::kF32, norm.shape()));
  EXPECT_NE(run_in_pieces(model, kTokens.size(), 1), before);
  model.replace_weight("model.layers.2.input_layernorm", norm);
  EXPECT_EQ(run_in_pieces(model, kTokens.size(), 1), before);
}

TEST(Model, ReplacementsThatDoNotFitAreErrors) {
  Model model = load("tiny_untied_f16");
  LinearParts parts = model.linear_parts("model.layers.0.mlp.up_proj");
  EXPECT_THROW(model.replace_linear("model.layers.0.mlp.down_proj", parts, default_stream()), Error);
  EXPECT_THROW(model.replace_linear("model.layers.9.mlp.up_proj", parts, default_stream()), Error);
  EXPECT_THROW(model.replace_linear("model.norm", parts, default_stream()), Error);
  EXPECT_THROW(model.replace_weight("model.norm", Tensor::zeros(DType::kF32, {7})), Error);
}

// Every linear layer of the decoder is told to an observer, with the input's width.
class InputCounter final : public ModelObserver {
 public:
  explicit InputCounter(const Model& model) : model_(model) {}
  void on_linear_input(std::string_view module, const Tensor& x) override {
    EXPECT_EQ(x.dim(1), model_.module(module).shape[1]) << module;
    seen.insert(std::string(module));
  }
  void on_key_value(std::int64_t, const Tensor& k, const Tensor& v, const Tensor& cos, const Tensor&) override {
    EXPECT_EQ(k.shape(), v.shape());
    EXPECT_EQ(k.dim(0), cos.dim(0));
    ++layers;
  }
  std::set<std::string> seen;
  std::int64_t layers = 0;

 private:
  const Model& model_;
};

TEST(Model, TellsObserversOfEveryLinearLayer) {
  const Model model = load("tiny_tied_f32");
  InputCounter counter(model);
  run_in_pieces(model, kTokens.size(), 1, &counter);
  for (const ModuleInfo& info : model.modules()) {
    const bool vision = info.rule_class == RuleClass::kVision || info.rule_class == RuleClass::kProjector;
    EXPECT_EQ(counter.seen.contains(info.module), info.linear && !vision) << info.module;
  }
  EXPECT_EQ(counter.layers, model.config().decoder.layers);
}

TEST(Model, InputsThatDoNotFitAreErrors) {
  const Model model = load("tiny_tied_f32");
  Workspace workspace;
  const RunContext run{default_stream(), workspace};
  EXPECT_THROW(model.embed(std::vector<std::int32_t>{97}), Error);
  EXPECT_THROW(model.embed(std::vector<std::int32_t>{-1}), Error);
  const Tensor picture = Tensor::zeros(DType::kF32, {2, 40});
  EXPECT_THROW(model.embed(std::vector<std::int32_t>{12}, picture), Error);
  EXPECT_THROW(model.embed(std::vector<std::int32_t>{12, 12, 12}, picture), Error);
  const PictureGrid odd{1, 3, 4}, even{1, 2, 2};
  EXPECT_THROW(model.encode_pictures(Tensor::zeros(DType::kF32, {12, 216}), {&odd, 1}, run), Error);
  EXPECT_THROW(model.encode_pictures(Tensor::zeros(DType::kF32, {5, 216}), {&even, 1}, run), Error);
  EXPECT_THROW(mrope_positions(std::vector<std::int32_t>{12, 12}, 12, {&even, 1}, 2), Error);
  EXPECT_THROW(mrope_positions(std::vector<std::int32_t>{1, 12}, 12, {}, 2), Error);
  EXPECT_THROW(mrope_positions(std::vector<std::int32_t>{1}, 12, {&even, 1}, 2), Error);
}

TEST(Model, CountsTheBytesOfItsWeights) {
  const Model model = load("tiny_tied_f32");
  std::int64_t total = 0, stored = 0;
  for (const auto& [format, bytes] : model.weight_bytes()) total += bytes;
  const Checkpoint checkpoint = Checkpoint::open(kGolden / "tiny_tied_f32");
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (!name.ends_with(".bias")) stored += info.nbytes;
  }
  // the tied head is held twice: as a table of rows and as a packed product
  EXPECT_EQ(total, stored + 97 * 40 * 4);
  EXPECT_TRUE(model.products_native());
}

TEST(Mrope, TablesOfAllPositionsGiveThoseOfAPrompt) {
  const Model model = load("tiny_tied_f32");
  const DecoderConfig& config = model.config().decoder;
  std::vector<Position> all;
  for (std::int32_t i = 0; i < 40; ++i) all.push_back({i, i, i});
  const RotationTables by_position = mrope_tables(config, all, Numerics::kBF16);
  const std::vector<Position> some{{0, 0, 0}, {7, 3, 39}, {39, 12, 1}};
  const RotationTables found = mrope_tables(config, some, by_position);
  const RotationTables expected = mrope_tables(config, some, Numerics::kBF16);
  for (std::int64_t i = 0; i < expected.cos.numel(); ++i) {
    EXPECT_EQ(found.cos.data<float>()[i], expected.cos.data<float>()[i]) << i;
    EXPECT_EQ(found.sin.data<float>()[i], expected.sin.data<float>()[i]) << i;
  }
  EXPECT_THROW(mrope_tables(config, std::vector<Position>{{40, 0, 0}}, by_position), Error);
}

TEST(DeviceSource, NamesTheLayersOfItsWeights) {
  const Model model = load("tiny_tied_f32");
  const DeviceDecoderLayerSource layer = device_decoder_source(model).layer(0);
  for (const DeviceProductsSource* products : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
    for (const DeviceLinearSource& source : *products) EXPECT_EQ(source.names.size(), source.weights.size());
  }
  EXPECT_THAT(layer.gate_up.at(0).names,
              ::testing::ElementsAre("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"));
}

}  // namespace
}  // namespace halftone

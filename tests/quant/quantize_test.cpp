#include "quant/quantize.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "formats/e4m3.h"
#include "model/model.h"
#include "quant/fold.h"
#include "quant/kv_scales.h"
#include "quant/layer_error.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

const std::filesystem::path kDemo = HALFTONE_SOURCE_DIR "/demo/model";

// Few and short samples: the tests look at the machinery, not at the accuracy.
Calibration calibrate_demo(Stream& stream) {
  CalibrationOptions data;
  data.count = 3;
  CalibrateOptions options;
  options.max_tokens = 96;
  options.sample_rows = 64;
  return calibrate(Checkpoint::open(kDemo),
                   read_calibration(HALFTONE_SOURCE_DIR "/demo/suite/captions/calibration.json", data), options,
                   stream);
}

class QuantizeDemo : public testing::Test {
 protected:
  static void SetUpTestSuite() { calibration_ = new Calibration(calibrate_demo(default_stream())); }
  static void TearDownTestSuite() {
    delete calibration_;
    calibration_ = nullptr;
    results_.clear();
  }
  // Each configuration is quantized once for all tests.
  static const QuantizedCheckpoint& run(const std::string& configuration) {
    const auto it = results_.find(configuration);
    if (it != results_.end()) return it->second;
    return results_[configuration] =
               quantize(Checkpoint::open(kDemo), load_recipe(configuration), calibration_, default_stream());
  }
  static const Calibration* calibration_;
  static std::map<std::string, QuantizedCheckpoint> results_;
};
const Calibration* QuantizeDemo::calibration_ = nullptr;
std::map<std::string, QuantizedCheckpoint> QuantizeDemo::results_;

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.nbytes())) == 0;
}

TEST_F(QuantizeDemo, CalibrationSeesEveryLayerAndPicture) {
  EXPECT_EQ(calibration_->inputs.size(), 8u * 7);
  EXPECT_EQ(calibration_->made_from.samples, 3);
  EXPECT_EQ(calibration_->made_from.pictures, 3);
  EXPECT_LE(calibration_->made_from.tokens, 3 * 96);
  EXPECT_EQ(calibration_->inputs.at("model.layers.0.self_attn.q_proj"),
            calibration_->inputs.at("model.layers.0.self_attn.v_proj"));
  const InputStatistics& down = *calibration_->inputs.at("model.layers.7.mlp.down_proj");
  EXPECT_EQ(down.absmax.size(), 768u);
  EXPECT_EQ(down.tokens, calibration_->made_from.tokens);
  EXPECT_EQ(down.rows.shape(), (Shape{64, 768}));
  EXPECT_GT(down.tensor_absmax(), 0);
  for (std::size_t c = 0; c < 768; ++c) EXPECT_LE(down.mean_abs(c), down.absmax[c]) << c;
  EXPECT_EQ(calibration_->kv.size(), 8u);
  // the demo's K carries rotary pairs and biases above E4M3's largest number; without the bias it is smaller
  EXPECT_GT(calibration_->kv[0].k[0], e4m3::kMax);
  EXPECT_EQ(calibration_->kv[0].v.size(), 128u);
}

TEST_F(QuantizeDemo, CalibrationDoesNotDependOnThreads) {
  ThreadPool one(1);
  Stream stream{&one};
  const Calibration other = calibrate_demo(stream);
  for (const auto& [module, statistics] : calibration_->inputs) {
    EXPECT_EQ(other.inputs.at(module)->absmax, statistics->absmax) << module;
    EXPECT_EQ(other.inputs.at(module)->abs_sum, statistics->abs_sum) << module;
    EXPECT_TRUE(same_bytes(other.inputs.at(module)->rows, statistics->rows)) << module;
  }
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(other.kv[i].k_debiased, calibration_->kv[i].k_debiased) << i;
}

TEST_F(QuantizeDemo, EveryRecipeQuantizesTheDecoderAlone) {
  for (const std::string& name : shipped_recipes()) {
    SCOPED_TRACE(name);
    const QuantizedCheckpoint& result = run(name);
    EXPECT_EQ(result.modules.size(), name == "bf16" ? 0u : 8u * 7);
    for (const auto& [module, parts] : result.modules) {
      EXPECT_TRUE(module.starts_with("model.layers.")) << module;
      check_qtensor(parts.weight, module);
    }
    for (const LayerReport& layer : result.report.layers) {
      if (layer.weights == "none") continue;
      EXPECT_LT(layer.bytes, layer.bytes_before) << layer.module;
      EXPECT_GT(layer.weight_error, 0) << layer.module;
      EXPECT_NEAR(layer.sqnr_db, -20 * std::log10(layer.weight_error), 1e-9) << layer.module;
      EXPECT_GT(layer.output_error.value(), 0) << layer.module;
      EXPECT_LT(layer.output_error.value(), 1) << layer.module;
    }
  }
}

TEST_F(QuantizeDemo, FusedLayersShareTheirScales) {
  for (const char* recipe : {"nvfp4", "nvfp4_w4a8"}) {
    const auto& modules = run(recipe).modules;
    const auto& q = modules.at("model.layers.2.self_attn.q_proj");
    EXPECT_EQ(q.weight.global_scale, modules.at("model.layers.2.self_attn.k_proj").weight.global_scale);
    EXPECT_EQ(q.weight.global_scale, modules.at("model.layers.2.self_attn.v_proj").weight.global_scale);
    EXPECT_EQ(q.input, modules.at("model.layers.2.self_attn.v_proj").input);
    const auto& gate = modules.at("model.layers.2.mlp.gate_proj");
    EXPECT_EQ(gate.weight.global_scale, modules.at("model.layers.2.mlp.up_proj").weight.global_scale);
    EXPECT_NE(gate.weight.global_scale, q.weight.global_scale);
  }
}

TEST_F(QuantizeDemo, IsDeterministic) {
  ThreadPool one(1);
  Stream stream{&one};
  for (const char* recipe : {"int8_sq", "int4_awq"}) {
    const QuantizedCheckpoint& a = run(recipe);
    const QuantizedCheckpoint b = quantize(Checkpoint::open(kDemo), load_recipe(recipe), calibration_, stream);
    for (const auto& [module, parts] : a.modules) {
      EXPECT_TRUE(same_bytes(parts.weight.payload, b.modules.at(module).weight.payload)) << module;
      EXPECT_TRUE(same_bytes(parts.weight.scales, b.modules.at(module).weight.scales)) << module;
      EXPECT_EQ(parts.input, b.modules.at(module).input) << module;
    }
    for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(same_bytes(tensor, b.tensors.at(name))) << name;
  }
}

// Everything is smoothed, nothing is rounded: the model's function stays.
TEST_F(QuantizeDemo, FoldingKeepsTheModel) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  Stream& stream = default_stream();
  Model model = Model::load(checkpoint, {Numerics::kF32, false}, stream);
  const std::vector<std::int32_t> tokens{1, 50, 300, 7, 2000, 12 + 100, 999, 40};
  const auto logits = [&] {
    Workspace workspace;
    RunContext run{stream, workspace};
    const DecoderConfig& config = model.config().decoder;
    Tensor hidden = model.embed(tokens);
    const Positions positions = mrope_positions(tokens, model.config().picture_token, {}, 2);
    PlainKvCache cache(config.layers, config.kv_heads, config.head_dim);
    const SequenceSlice slice{&cache, positions.values};
    model.forward({&slice, 1}, hidden, run);
    return model.logits(hidden, run).clone();
  };
  const Tensor before = logits();

  WorkingWeights weights(checkpoint, model.modules(), *stream.pool);
  Recipe recipe = load_recipe("int8_sq");
  FormatTable formats;
  const auto resolved = resolve_rules(recipe, model.modules());
  for (std::size_t i = 0; i < resolved.size(); ++i) formats[model.modules()[i].module] = resolved[i];
  for (const LinearGroup& group : linear_groups(model.config(), model.modules())) {
    if (group.layer < 0) continue;
    const Smoothing smoothing =
        smooth_group(group, recipe, formats, *calibration_->inputs.at(group.readers[0]), weights, stream);
    ASSERT_FALSE(smoothing.factors.empty()) << group.readers[0];
  }
  std::map<std::string, LinearParts> parts;
  for (const ModuleInfo& module : model.modules()) {
    if (!formats.at(module.module).quantized() && module.rule_class != RuleClass::kNorm) continue;
    const WorkingModule& work = weights.get(module.module);
    if (module.linear) {
      // norms and biases are stored in bf16, weights stay in f32: rounding them would be part of the format's error
      const Tensor bias = work.bias.defined() ? from_f32(work.bias, work.bias_dtype) : Tensor();
      parts[module.module] = {wrap_unquantized(work.weight), bias, {}};
    } else if (work.weight_changed) {
      model.replace_weight(module.module, from_f32(work.weight, work.dtype));
    }
  }
  model.replace_linears(parts, stream);
  const Tensor after = logits();
  float most = 0;
  for (std::int64_t i = 0; i < before.numel(); ++i) most = std::max(most, std::abs(before.data<float>()[i]));
  // factors snap so that bf16 holds what is stored: what is left are some f32 roundings of each weight, 8 layers deep
  for (std::int64_t i = 0; i < before.numel(); ++i) {
    ASSERT_NEAR(after.data<float>()[i], before.data<float>()[i], 1e-4f * most) << i;
  }
}

TEST_F(QuantizeDemo, SmoothingHelpsWhereItShould) {
  const auto mean_error = [](const QuantizedCheckpoint& result) {
    double sum = 0;
    for (const LayerReport& layer : result.report.layers) sum += layer.output_error.value_or(0);
    return sum;
  };
  EXPECT_LT(mean_error(run("int8_sq")), mean_error(run("int8")) / 3);
  EXPECT_LT(mean_error(run("int4_awq")), mean_error(run("int4_wo")) / 1.5);
}

// The mean over the quantized layers of one error.
template <typename Error>
double mean_error(const QuantizedCheckpoint& result, Error error) {
  double sum = 0, layers = 0;
  for (const LayerReport& layer : result.report.layers) {
    if (layer.weights == "none") continue;
    sum += error(layer);
    ++layers;
  }
  return sum / layers;
}

double mean_output_error(const QuantizedCheckpoint& result) {
  return mean_error(result, [](const LayerReport& layer) { return layer.output_error.value(); });
}

// A recipe of one rule for the first decoder layer or a part of it.
QuantizedCheckpoint quantize_first_layer(const Calibration& calibration, const std::string& layout,
                                         const std::string& algorithm, const std::string& formats,
                                         const std::string& part = "*") {
  const std::string text = "layout: " + layout + "\nalgorithm: " + algorithm + "\nrules:\n  - {match: '*.layers.0." +
                           part + "', " + formats + "}\n";
  return quantize(Checkpoint::open(kDemo), parse_recipe(text, "first", "test"), &calibration, default_stream());
}

TEST_F(QuantizeDemo, SearchedExponentsAreNotWorseThanAFixedOne) {
  const auto run_with = [&](const std::string& alpha) {
    return quantize_first_layer(*calibration_, "compressed-tensors", "{name: smoothquant, alpha: " + alpha + "}",
                                "weights: int8_channel, inputs: int8_tensor");
  };
  const QuantizedCheckpoint searched = run_with("search");
  // the search sums squares over a group of layers, the report lists each: one may lose a little
  EXPECT_LT(mean_output_error(searched), 1.02 * mean_output_error(run_with("0.5")));
  for (const LayerReport& layer : searched.report.layers) {
    if (layer.weights == "none") continue;
    ASSERT_TRUE(layer.loss && layer.loss_without && layer.alpha) << layer.module;
    EXPECT_LE(*layer.loss, *layer.loss_without) << layer.module;
  }
}

TEST_F(QuantizeDemo, ClippingLowersTheErrorOfAllButQueriesAndKeys) {
  const auto run_with = [&](const std::string& algorithm) {
    return quantize_first_layer(*calibration_, "compressed-tensors", algorithm, "weights: int4_group128");
  };
  const QuantizedCheckpoint lite = run_with("awq"), full = run_with("{name: awq, method: full}");
  EXPECT_LT(mean_output_error(full), mean_output_error(lite));
  for (const auto& [module, parts] : lite.modules) {
    const bool left = module.ends_with("q_proj") || module.ends_with("k_proj");
    const Tensor& scales = full.modules.at(module).weight.scales;
    const auto bytes = static_cast<std::size_t>(scales.nbytes());
    EXPECT_EQ(std::memcmp(scales.raw(), parts.weight.scales.raw(), bytes) == 0, left) << module;
  }
  const QuantizedCheckpoint clip = run_with("{name: awq, method: clip}");
  EXPECT_TRUE(clip.tensors.empty()) << "clipping alone changes no other tensor";
  EXPECT_LT(mean_output_error(clip), mean_output_error(run_with("round-to-nearest")));
}

TEST_F(QuantizeDemo, ScalesThatStayWithALayerLowerItsError) {
  const auto error_with = [&](const std::string& algorithm, const std::string& formats) {
    return mean_output_error(quantize_first_layer(*calibration_, "modelopt", algorithm, formats, "mlp.down_proj"));
  };
  const std::string int8 = "weights: int8_channel, inputs: int8_tensor", int4 = "weights: int4_group128",
                    nvfp4 = "weights: nvfp4_block16, inputs: nvfp4_block16";
  EXPECT_LT(error_with("{name: smoothquant, mode: modelopt}", int8), error_with("round-to-nearest", int8));
  EXPECT_LT(error_with("{name: awq, mode: modelopt}", int4), error_with("round-to-nearest", int4));
  EXPECT_LT(error_with("{name: svdquant, rank: 8}", nvfp4), error_with("round-to-nearest", nvfp4));
}

TEST_F(QuantizeDemo, ModelOptsClippingKeepsItsLimits) {
  const auto run_with = [&](const std::string& method, const std::string& formats) {
    return quantize_first_layer(*calibration_, "modelopt", "{name: awq, mode: modelopt, method: " + method + "}",
                                formats, formats.find("int4") == std::string::npos ? "*" : "*.o_proj");
  };
  const std::string int4 = "weights: int4_group128", nvfp4 = "weights: nvfp4_block16, inputs: nvfp4_block16";
  EXPECT_LT(mean_output_error(run_with("full", int4)), mean_output_error(run_with("lite", int4)));
  EXPECT_FALSE(run_with("clip", int4).modules.begin()->second.prescaled);
  const QuantizedCheckpoint clipped = run_with("clip", nvfp4), &whole = run("nvfp4");
  int smaller = 0;
  for (const auto& [module, parts] : clipped.modules) {
    const float scale = parts.weight.global_scale, most = whole.modules.at(module).weight.global_scale;
    EXPECT_LE(scale, most) << module;
    EXPECT_GE(scale, 0.49f * most) << module;
    smaller += scale < most;
  }
  EXPECT_GT(smaller, 0);
  const auto scale = [&](const char* name) { return clipped.modules.at(name).weight.global_scale; };
  EXPECT_EQ(scale("model.layers.0.mlp.gate_proj"), scale("model.layers.0.mlp.up_proj")) << "fused: one scale";
}

TEST_F(QuantizeDemo, FourOverSixLowersTheErrorOfWeights) {
  const auto error = [&](const std::string& more) {
    return mean_error(quantize_first_layer(*calibration_, "modelopt", "round-to-nearest",
                                           "weights: nvfp4_block16, inputs: nvfp4_block16" + more),
                      [](const LayerReport& layer) { return layer.weight_error; });
  };
  EXPECT_LT(error(", four_over_six: true"), 0.98 * error(""));
}

TEST_F(QuantizeDemo, ReportIsJsonWithALineForEveryLinearLayer) {
  const QuantizedCheckpoint& result = run("int8_sq+kv:fp8_head");
  const OrderedJson json = to_json(result.report);
  EXPECT_EQ(json["configuration"], "int8_sq+kv:fp8_head");
  EXPECT_EQ(json["layers"].size(), 8u * 7 + 5 * 4 + 2 + 1);  // the vision tower's, the merger's and the head are listed
  EXPECT_EQ(json["kv_cache"]["k_scales"].size(), 8u);
  EXPECT_EQ(json["kv_cache"]["k_scales"][0].size(), 2u);
  EXPECT_EQ(json["calibration"]["samples"], 3);
  EXPECT_EQ(json["layers"][0]["alpha"], 0.5f);
  EXPECT_EQ(OrderedJson::parse(json.dump()), json);
}

TEST_F(QuantizeDemo, MisfitsAreReportedTogetherBeforeWorkBegins) {
  const Recipe recipe = parse_recipe(
      "layout: modelopt\nrules:\n  - {match: '*', weights: int4_channel}\n  - {match: '*.q_proj', weights: none}\n",
      "bad", "bad.yaml");
  const std::string error =
      error_of([&] { quantize(Checkpoint::open(kDemo), recipe, calibration_, default_stream()); });
  EXPECT_EQ(error_of([&] { check_recipe(Checkpoint::open(kDemo), recipe); }), error);
  EXPECT_THAT(error, testing::HasSubstr("48 layers cannot take their format"));
  EXPECT_THAT(error, testing::HasSubstr("model.layers.7.mlp.down_proj: layout modelopt has no int4_channel weights"));
}

TEST_F(QuantizeDemo, MissingCalibrationIsAnError) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const auto without = [&](const char* configuration) {
    return error_of([&] { quantize(checkpoint, load_recipe(configuration), nullptr, default_stream()); });
  };
  EXPECT_THAT(without("int8"), testing::HasSubstr("needs calibration data"));
  EXPECT_THAT(without("bf16+kv:fp8_head"), testing::HasSubstr("needs calibration data"));
  EXPECT_EQ(without("int4_wo+kv:fp8"), "no error");
}

TEST(QuantizeVision, ARuleThatNamesTheTowerQuantizesIt) {
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const Recipe recipe = parse_recipe(
      "layout: compressed-tensors\nrules:\n  - {match: 'visual.*', weights: int8_channel, inputs: int8_tensor}\n",
      "tower", "tower.yaml");
  CalibrateOptions options = watch_for(recipe, checkpoint, {});
  EXPECT_TRUE(options.vision);
  EXPECT_FALSE(options.head);
  options.max_tokens = 96;
  options.sample_rows = 32;
  CalibrationOptions data;
  data.count = 1;
  const Calibration calibration =
      calibrate(checkpoint, read_calibration(HALFTONE_SOURCE_DIR "/demo/suite/captions/calibration.json", data),
                options, default_stream());
  const QuantizedCheckpoint result = quantize(checkpoint, recipe, &calibration, default_stream());
  EXPECT_EQ(result.modules.size(), 5u * 4 + 2);
  for (const LayerReport& layer : result.report.layers) {
    if (layer.weights == "none") continue;
    EXPECT_TRUE(layer.module.starts_with("visual.")) << layer.module;
    EXPECT_LT(layer.output_error.value(), 0.2) << layer.module;
  }
}

TEST_F(QuantizeDemo, SomeLayersOfASmoothedGroupMayStayAsTheyAre) {
  const Recipe recipe = parse_recipe(
      "layout: compressed-tensors\nalgorithm: smoothquant\nrules:\n"
      "  - {match: '*', weights: int8_channel, inputs: int8_tensor}\n"
      "  - {match: '*.k_proj', weights: none}\n",
      "part", "part.yaml");
  const QuantizedCheckpoint result = quantize(Checkpoint::open(kDemo), recipe, calibration_, default_stream());
  EXPECT_FALSE(result.modules.contains("model.layers.0.self_attn.k_proj"));
  EXPECT_EQ(result.tensors.at("model.layers.0.self_attn.k_proj.weight").dtype(), DType::kBF16);
  EXPECT_EQ(result.tensors.count("model.layers.0.self_attn.k_proj.bias"), 0u);
  EXPECT_TRUE(result.modules.at("model.layers.0.self_attn.v_proj").bias.defined());
}

TEST(KvScales, FollowTheirFormat) {
  const std::vector<KvStatistics> layers{{{896, 448}, {44.8f, 4.48f}, {448, 1, 2, 3}}};
  const std::vector<std::vector<float>> none(1), factors{{4, 1, 1, 1}};
  EXPECT_TRUE(kv_scales("fp8", layers, none).layers.empty());
  EXPECT_TRUE(kv_scales("bf16", {}, {}).layers.empty());
  const KvQuantization tensor = kv_scales("fp8_calibrated", layers, none);
  EXPECT_THAT(tensor.layers[0].k, testing::ElementsAre(2));
  EXPECT_THAT(tensor.layers[0].v, testing::ElementsAre(1));
  const KvQuantization head = kv_scales("fp8_head", layers, factors);
  EXPECT_THAT(head.layers[0].k, testing::ElementsAre(2, 1));
  EXPECT_THAT(head.layers[0].v, testing::ElementsAre(0.25f, 3.0f / 448));
  EXPECT_THAT(kv_scales("fp8_debiased", layers, none).layers[0].k, testing::ElementsAre(44.8f / 448));
  EXPECT_THAT(kv_scales("int8_calibrated", layers, none).layers[0].k, testing::ElementsAre(896.0f / 127));
  const KvQuantization integers = kv_scales("int8_head", layers, factors);
  EXPECT_THAT(integers.layers[0].k, testing::ElementsAre(896.0f / 127, 448.0f / 127));
  EXPECT_THAT(integers.layers[0].v, testing::ElementsAre(112.0f / 127, 3.0f / 127));
  EXPECT_THROW(kv_scales("fp8_head", {}, {}), Error);
  EXPECT_THROW(kv_scales("int8_head", {}, {}), Error);
}

TEST(LayerError, CountsWhatRoundingAndInputsLose) {
  ThreadPool pool(1);
  const Tensor weight = Tensor::from({1, 2, 3, 4}, {2, 2});
  EXPECT_EQ(weight_error(wrap_unquantized(weight), weight, pool).relative, 0);
  const QTensor off = wrap_unquantized(Tensor::from({1, 2, 3, 5}, {2, 2}));
  EXPECT_DOUBLE_EQ(weight_error(off, weight, pool).relative, std::sqrt(1.0 / 30));
  EXPECT_NEAR(weight_error(off, weight, pool).sqnr_db, 10 * std::log10(30.0), 1e-12);
  const Tensor x = Tensor::from({1, 0, 0, 1}, {2, 2});
  EXPECT_NEAR(output_error({off, {}, {}}, weight, x, default_stream()), std::sqrt(1.0 / 30), 1e-7);
  // 1 / 1024 is half of the smallest E4M3 number: every input becomes 0, and everything is lost
  const InputQuant coarse{InputQuant::Kind::kStaticE4M3, 1024.0f};
  EXPECT_EQ(output_error({wrap_unquantized(weight), {}, coarse}, weight, x, default_stream()), 1);
}

TEST(LayerError, TakesInputsThatAreScaledAndCountsTheLowRankPart) {
  const Tensor weight = Tensor::from({1, 2, 3, 4}, {2, 2}), x = Tensor::from({1, 0, 0, 1}, {2, 2});
  LinearParts parts{wrap_unquantized(Tensor::from({1, 2, 3, 5}, {2, 2})), {}, {}};
  parts.input_scales = Tensor::from({10, 100}, {2});
  EXPECT_NEAR(output_error(parts, weight, x, default_stream()), std::sqrt(1.0 / 30), 1e-7);
  // B A = [[2, 0], [0, 0]]: 1 becomes 3, and 30 is 38
  parts.low_rank_a = Tensor::from({2, 0}, {1, 2});
  parts.low_rank_b = Tensor::from({1, 0}, {2, 1});
  EXPECT_NEAR(output_error(parts, weight, x, default_stream()), std::sqrt(1.0 / 38), 1e-7);
}

}  // namespace
}  // namespace halftone

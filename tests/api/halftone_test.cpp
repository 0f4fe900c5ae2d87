// The public interface, on the demo model and its suite: what a program that links the library can do.

#include "halftone/halftone.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halftone::api {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(HALFTONE_SOURCE_DIR) / "demo";

// A folder that is gone after the test.
struct TemporaryFolder {
  fs::path path = fs::path(::testing::TempDir()) / ("halftone_api_" + std::to_string(::getpid()));
  TemporaryFolder() { fs::remove_all(path); }
  ~TemporaryFolder() { fs::remove_all(path); }
};

fs::path any_picture() {
  for (const auto& entry : fs::recursive_directory_iterator(kDemo / "suite")) {
    if (entry.path().extension() == ".jpg") return entry.path();
  }
  throw std::runtime_error("the suite has no JPEG file");
}

TEST(Api, AnswersAndStreamsTheSameText) {
  VisionLanguageModel model = VisionLanguageModel::load(kDemo / "model", {.threads = 2});
  std::string streamed;
  AskOptions options;
  options.max_new_tokens = 8;
  const Answer answer = model.ask("What is in the picture?", {any_picture()}, options, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_FALSE(answer.tokens.empty());
  EXPECT_GT(answer.visual_tokens, 0);
  EXPECT_GT(answer.prompt_tokens, answer.visual_tokens);
  EXPECT_THAT(streamed, ::testing::StartsWith(answer.text));
  EXPECT_EQ(model.ask("What is in the picture?", {any_picture()}, options).tokens, answer.tokens);
}

TEST(Api, QuantizesAndEvaluatesWhatItWrote) {
  const TemporaryFolder out;
  std::int64_t steps = 0;
  QuantizeOptions options;
  options.on_progress = [&](std::string_view, std::int64_t, std::int64_t) { ++steps; };
  const Quantized quantized = quantize(kDemo / "model", "int8_wo", out.path, options);
  EXPECT_GT(steps, 0);
  EXPECT_EQ(quantized.configuration, "int8_wo");
  EXPECT_LT(quantized.bytes, quantized.bytes_before);
  EXPECT_TRUE(fs::exists(out.path / "quantization_report.json"));
  for (const LayerError& layer : quantized.layers) {
    if (layer.weights == "int8_channel") {
      EXPECT_GT(layer.sqnr_db, 20) << layer.module;
    }
  }

  EvaluateOptions ask;
  ask.limit = 10;
  const std::vector<Score> scores = evaluate(out.path, {{"gqa", kDemo / "suite" / "gqa"}}, ask);
  ASSERT_FALSE(scores.empty());
  EXPECT_EQ(scores.front().task, "gqa");
  EXPECT_GE(scores.front().samples, 10);  // all questions on as many pictures as that takes
  EXPECT_GE(scores.front().value, 50);    // the unquantized model has 88.5 on all
}

TEST(Api, RefusalsNameWhatIsWrong) {
  EXPECT_THROW(VisionLanguageModel::load(kDemo / "model", {.numerics = "f64"}), std::runtime_error);
  try {
    quantize(kDemo / "model", "int9", fs::path(::testing::TempDir()) / "never");
    FAIL() << "expected an error";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("int9"));
  }
}

}  // namespace
}  // namespace halftone::api

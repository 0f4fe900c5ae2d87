#include "hf/synth.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "base/file.h"
#include "hf/checkpoint.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

class Synth : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = fs::path(testing::TempDir()) / ("halftone_synth_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    make("one", 1, 1);
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }

  static void make(const std::string& folder, std::uint64_t seed, int threads) {
    ThreadPool pool(threads);
    synthesize("qwen2-vl-tiny", root_ / folder, seed, pool);
  }

  inline static fs::path root_;
};

TEST_F(Synth, DependsOnTheSeedAlone) {
  make("threads", 1, 3);
  make("seed", 2, 2);
  const std::string one = Checkpoint::open(root_ / "one").content_hash();
  EXPECT_EQ(Checkpoint::open(root_ / "threads").content_hash(), one);
  EXPECT_NE(Checkpoint::open(root_ / "seed").content_hash(), one);
}

TEST_F(Synth, WeightsAreNormalAndNormsAreOne) {
  const Checkpoint a = Checkpoint::open(root_ / "one");
  const Tensor embedding = to_f32(a.tensor("model.embed_tokens.weight"));
  ASSERT_EQ(embedding.shape(), (Shape{151936, 128}));
  double sum = 0, squares = 0, tail = 0;
  const auto n = static_cast<double>(embedding.numel());
  for (std::int64_t i = 0; i < embedding.numel(); ++i) {
    const double x = embedding.data<float>()[i];
    sum += x;
    squares += x * x;
    tail += std::fabs(x) > 0.04 ? 1 : 0;
  }
  // five standard errors of each estimate
  EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), 0.02, 5 * 0.02 / std::sqrt(2 * n) + 0.02 * 0x1p-9);  // and bf16
  // P(|x| > 2 sigma); half a bf16 step of 2^-12 at 0.04, on both sides, under a density of 2.7
  EXPECT_NEAR(tail / n, 0.0455, 0x1p-13 * 2 * 2.7 + 5 * std::sqrt(0.0455 / n));
  EXPECT_EQ(to_f32(a.tensor("visual.merger.ln_q.weight")).data<float>()[63], 1.0f);
  EXPECT_EQ(to_f32(a.tensor("visual.blocks.1.norm2.bias")).data<float>()[5], 0.0f);
  EXPECT_EQ(to_f32(a.tensor("model.norm.weight")).data<float>()[0], 1.0f);
}

TEST_F(Synth, TokenizerHasTheRealIds) {
  const Json tokenizer = read_json(root_ / "one/tokenizer.json");
  const Json& vocabulary = tokenizer.at("model").at("vocab");
  EXPECT_EQ(vocabulary.size(), 151643u);
  EXPECT_EQ(vocabulary.at("!"), 0);
  EXPECT_EQ(vocabulary.at("\u0120"), 220);  // the space
  const Json& added = tokenizer.at("added_tokens");
  EXPECT_EQ(added.at(0).at("id"), 151643);
  EXPECT_EQ(added.at(12).at("content"), "<|image_pad|>");
  EXPECT_EQ(added.at(12).at("id"), 151655);
}

TEST_F(Synth, RefusesUnknownNamesAndExistingFolders) {
  ThreadPool pool(1);
  EXPECT_THROW(synthesize("gpt-5", root_ / "x", 1, pool), Error);
  EXPECT_THROW(synthesize("qwen2-vl-tiny", root_, 1, pool), Error);
  EXPECT_FALSE(fs::exists(root_ / "x"));
}

}  // namespace
}  // namespace halftone

// AWQ's clipping as ModelOpt does it: tests/golden/clip.safetensors (make_clip_golden.py).
#include "quant/awq_clip.h"

#include <gtest/gtest.h>

#include "tests/hf/golden_tensors.h"

namespace halftone {
namespace {

using testing_support::GoldenTensors;

// Sums of 256 products in another order: 2^-12 leaves a hundred times the rounding of f32; an output of bf16 that such a
// sum pushes over a rounding boundary would show, and none of these does.
constexpr double kLossTolerance = 0x1p-12;

struct Case {
  Tensor weight;
  InputStatistics inputs;
  AwqClipLinear linear;

  Case(const GoldenTensors& golden, const std::string& name) : weight(to_f32(golden[name + ".weight"])) {
    inputs.rows = golden[name + ".rows"];
    inputs.row_weights = golden.values(name + ".row_weights");
    linear = {name, &weight, DType::kBF16, name == "int4.full" ? DType::kF32 : DType::kBF16, {}};
    const bool int4 = name.starts_with("int4");
    linear.spec = {int4 ? Element::kInt4 : Element::kE2M1, Granularity::kGroup, int4 ? 128 : 16};
  }
};

class AwqClip : public testing::TestWithParam<const char*> {};

TEST_P(AwqClip, FindsWhatModelOptFinds) {
  const GoldenTensors golden("clip.safetensors");
  const std::string name = GetParam();
  const Case test(golden, name);
  const AwqClipResult found = search_awq_clip(test.linear, test.inputs, default_stream());
  EXPECT_EQ(found.amax, golden.values(name + ".amax"));
  const std::vector<float> losses = golden.values(name + ".losses");
  ASSERT_EQ(losses.size(), found.losses.size() * kClipRatios.size());
  for (std::size_t scale = 0; scale < found.losses.size(); ++scale) {
    for (std::size_t k = 0; k < kClipRatios.size(); ++k) {
      const double want = losses[k * found.losses.size() + scale];
      EXPECT_NEAR(found.losses[scale][k], want, kLossTolerance * want) << "scale " << scale << ", share " << k;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AwqClip, testing::Values("int4.clip", "int4.full", "nvfp4.clip", "nvfp4.full"));

TEST(AwqClipSearch, DoesNotDependOnThreads) {
  const GoldenTensors golden("clip.safetensors");
  ThreadPool one(1), three(3);
  Stream a{&one}, b{&three};
  for (const char* name : {"int4.full", "nvfp4.full"}) {
    const Case test(golden, name);
    const AwqClipResult first = search_awq_clip(test.linear, test.inputs, a);
    EXPECT_EQ(first.losses, search_awq_clip(test.linear, test.inputs, b).losses);
  }
}

TEST(AwqClipSearch, RefusesWhatTheToolDoesNotClip) {
  const GoldenTensors golden("clip.safetensors");
  Case test(golden, "int4.clip");
  test.linear.spec.asymmetric = true;
  EXPECT_THROW(search_awq_clip(test.linear, test.inputs, default_stream()), Error);
  test.linear.spec.asymmetric = false;
  test.inputs.rows = {};
  EXPECT_THROW(search_awq_clip(test.linear, test.inputs, default_stream()), Error);
}

}  // namespace
}  // namespace halftone

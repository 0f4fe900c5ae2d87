#include "driver/study_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kDemo = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo";

StudyPlan parse(const std::string& yaml) { return parse_study_plan(yaml, kDemo, "study.yaml"); }

std::string error_of(const std::string& yaml) {
  try {
    parse(yaml);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

constexpr const char* kSmall = R"(
name: small
model: model
configurations: [bf16, int8_wo]
tasks:
  vqav2: suite/vqav2
)";

TEST(StudyPlan, FillsInDefaults) {
  const StudyPlan plan = parse(kSmall);
  EXPECT_EQ(plan.baseline, "bf16");
  EXPECT_EQ(plan.device, "cpu");
  EXPECT_EQ(plan.numerics, "f32");
  ASSERT_EQ(plan.tasks.size(), 1u);
  EXPECT_EQ(plan.tasks[0].prompts, "suite");
  EXPECT_EQ(plan.tasks[0].limit, 0);
  EXPECT_EQ(plan.tasks[0].data, kDemo / "suite/vqav2");
  EXPECT_FALSE(plan.kl || plan.bench || plan.perplexity || plan.calibration || plan.pixels);
}

TEST(StudyPlan, ReadsTheDemo) {
  const StudyPlan plan = read_study_plan(kDemo / "study.yaml");
  EXPECT_THAT(plan.configurations,
              ElementsAre("bf16", "int8_wo", "int4_wo", "int8", "int8_sq", "fp8", "int4_awq", "nvfp4", "nvfp4_w4a8",
                          "fp8+kv:fp8", "fp8+kv:fp8_calibrated", "fp8+kv:fp8_head", "fp8+kv:fp8_debiased"));
  EXPECT_EQ(plan.tasks.size(), 5u);
  EXPECT_TRUE(plan.kl && plan.perplexity && plan.calibration && plan.bench);
}

TEST(StudyPlan, RunsOnAGpuWithItsNumericsAlone) {
  const std::string small = kSmall;
  EXPECT_EQ(parse(small + "device: cuda\n").numerics, "bf16");
  EXPECT_THAT(error_of(small + "device: cuda\nnumerics: f32\n"), HasSubstr("field 'numerics': expected bf16"));
  EXPECT_THAT(error_of(small + "device: tpu\n"), HasSubstr("field 'device': expected cpu or cuda, found 'tpu'"));
}

TEST(StudyPlan, TakesOverridesInPlaceOfItsOwnKeys) {
  const std::string yaml = std::string(kSmall) + "numerics: f32\nbaseline: bf16\n";
  const StudyPlan plan = parse_study_plan(yaml, kDemo, "study.yaml", {"cuda", "bf16", {"int8_wo", "int4_wo"}});
  EXPECT_EQ(plan.device, "cuda");
  EXPECT_EQ(plan.numerics, "bf16");
  EXPECT_EQ(plan.baseline, "int8_wo");
  EXPECT_THAT(plan.configurations, ElementsAre("int8_wo", "int4_wo"));
}

TEST(StudyPlan, NamesWhatIsWrong) {
  const std::string small = kSmall;
  EXPECT_THAT(error_of(small + "sede: 1\n"), HasSubstr("unknown key 'sede': expected one of name, model, seed"));
  EXPECT_THAT(error_of(small + "seed: -1\n"), HasSubstr("field 'seed': expected an integer from 0, found -1"));
  EXPECT_THAT(error_of(small + "numerics: f16\n"), HasSubstr("field 'numerics': expected f32 or bf16, found 'f16'"));
  EXPECT_THAT(error_of(small + "baseline: int8_wo\n"), HasSubstr("field 'baseline': expected the first configuration"));
  EXPECT_THAT(error_of(small + "kl: {sample: 3}\n"), HasSubstr("unknown key 'kl.sample'"));
  EXPECT_THAT(error_of(small + "perplexity: {data: nowhere}\n"), HasSubstr("field 'perplexity.data'"));
  EXPECT_THAT(error_of(small + "  pope: {data: suite/pope, limit: many}\n"), HasSubstr("field 'tasks.pope.limit'"));
  EXPECT_THAT(error_of(small + "  pope: {data: suite/pope, prompts: mine}\n"), HasSubstr("field 'tasks.pope.prompts'"));
  EXPECT_THAT(error_of(small + "  docvqa: suite\n"), HasSubstr("field 'tasks'"));
  EXPECT_THAT(error_of(small + "bench: {workloads: {x: {width: 28}}}\n"), HasSubstr("bench.workloads.x"));
  EXPECT_THAT(error_of("name: x\nmodel: nowhere\nconfigurations: [bf16]\n"), HasSubstr("field 'model': '"));
  EXPECT_THAT(error_of("name: x\nmodel: model\n"), HasSubstr("field 'configurations': missing"));
  EXPECT_THAT(error_of("name: x\nmodel: model\nconfigurations: [bf16, int5]\n"), HasSubstr("configurations[1]"));
  EXPECT_THAT(error_of("name: x\nmodel: model\nconfigurations: [bf16, bf16]\n"), HasSubstr("there twice"));
  EXPECT_THAT(error_of("name: x\nmodel: model\nconfigurations: [bf16, fp8]\n"),
              HasSubstr("field 'calibration': missing, but 'fp8' needs it"));
  EXPECT_THAT(error_of("- a\n- b\n"), HasSubstr("expected an object"));
}

}  // namespace
}  // namespace halftone

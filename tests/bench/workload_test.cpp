#include "bench/workload.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "vision/picture.h"

namespace halftone {
namespace {

BenchRepeat repeat_of(double vision, std::vector<double> tokens) {
  BenchRepeat repeat;
  repeat.output_tokens = static_cast<std::int64_t>(tokens.size()) + 1;
  repeat.times.picture_decode = 0.001;
  repeat.times.resize = 0.002;
  repeat.times.vision = vision;
  repeat.times.prefill = 0.01;
  repeat.times.first_token = 0.001;
  repeat.times.tokens = std::move(tokens);
  return repeat;
}

TEST(BenchRepeat, FormulasAreThoseOfTheHeader) {
  const BenchRepeat repeat = repeat_of(0.1, {0.02, 0.04});
  EXPECT_DOUBLE_EQ(repeat.times.ttft(), 0.114);
  EXPECT_DOUBLE_EQ(repeat.per_token(), 0.03);
  EXPECT_DOUBLE_EQ(repeat.throughput(), 3 / (0.114 + 0.06));
  EXPECT_EQ(repeat_of(0.1, {}).per_token(), 0);
}

TEST(SummarizeRepeats, GivesMillisecondsByStage) {
  std::vector<BenchRepeat> repeats;
  for (int i = 1; i <= 30; ++i) repeats.push_back(repeat_of(0.001 * i, {0.002}));
  const Json summary = summarize_repeats(repeats);
  EXPECT_DOUBLE_EQ(summary["vision"]["median"].get<double>(), 15.5);
  EXPECT_DOUBLE_EQ(summary["vision"]["low"].get<double>(), 10);  // the tabulated ranks for n = 30 at 95 %: 10 and 21
  EXPECT_DOUBLE_EQ(summary["vision"]["high"].get<double>(), 21);
  EXPECT_EQ(summary["ttft"]["count"].get<int>(), 30);
}

TEST(SyntheticJpeg, DecodesAndDiffersBySeed) {
  const std::string file = synthetic_jpeg(57, 33, 1);
  const Picture picture = decode_picture(std::as_bytes(std::span(file)), "synthetic");
  EXPECT_EQ(picture.width, 57);
  EXPECT_EQ(picture.height, 33);
  EXPECT_EQ(file, synthetic_jpeg(57, 33, 1));
  EXPECT_NE(file, synthetic_jpeg(57, 33, 2));
  EXPECT_THROW(synthetic_jpeg(0, 10, 1), Error);
  EXPECT_THROW(synthetic_jpeg(10, 100'000, 1), Error);
}

TEST(PeakMemory, GrowsWithUse) {
  const std::int64_t before = peak_resident_bytes();
  const std::vector<char> block(64 << 20, 1);
  EXPECT_GE(peak_resident_bytes(), before + (32 << 20));
  EXPECT_EQ(block.back(), 1);
}

}  // namespace
}  // namespace halftone

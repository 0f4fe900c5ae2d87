// Bicubic resampling against Pillow, and its SIMD passes against the plain loops.
#include "vision/resample.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>

#include "base/error.h"
#include "vision_golden.h"

namespace halftone {
namespace {

TEST(Resample, EqualsPillow) {
  ThreadPool pool(2);
  for (const Json& golden : vision_golden()["resize"]) {
    const Picture picture = noise_picture(golden["from"][0], golden["from"][1]);
    const std::int64_t width = golden["to"][0], height = golden["to"][1];
    const Picture reference = resize_bicubic_reference(picture, width, height);
    EXPECT_EQ(hash_of(reference.rgb), golden["sha256"].get<std::string>()) << golden.dump();
    const Picture resized = resize_bicubic(picture, width, height, pool);
    EXPECT_EQ(resized.width, width);
    EXPECT_EQ(resized.height, height);
    EXPECT_EQ(resized.rgb, reference.rgb) << golden.dump();
  }
}

TEST(Resample, EqualsReferenceAtEverySmallSize) {
  ThreadPool pool(2);
  for (std::int64_t from = 1; from <= 23; from += 2) {
    for (std::int64_t to = 1; to <= 29; to += 3) {
      const Picture picture = noise_picture(from, 25 - from);
      const Picture reference = resize_bicubic_reference(picture, to, 30 - to);
      EXPECT_EQ(resize_bicubic(picture, to, 30 - to, pool).rgb, reference.rgb) << from << " to " << to;
    }
  }
}

// Every instruction set of this machine, not only the best one.
TEST(Resample, EveryTargetGivesTheSameBits) {
  ThreadPool pool(2);
  const Picture picture = noise_picture(203, 151);
  const Picture shrunk = resize_bicubic_reference(picture, 97, 60), grown = resize_bicubic_reference(picture, 301, 200);
  const std::int64_t supported = hwy::SupportedTargets();
  for (std::int64_t rest = supported; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    EXPECT_EQ(resize_bicubic(picture, 97, 60, pool).rgb, shrunk.rgb) << hwy::TargetName(target);
    EXPECT_EQ(resize_bicubic(picture, 301, 200, pool).rgb, grown.rgb) << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(Resample, SameSizeIsIdentity) {
  ThreadPool pool(1);
  const Picture picture = noise_picture(31, 17);
  EXPECT_EQ(resize_bicubic(picture, 31, 17, pool).rgb, picture.rgb);
}

TEST(Resample, ConstantPicturesStayConstant) {
  ThreadPool pool(1);
  for (const int value : {0, 1, 127, 128, 254, 255}) {
    Picture picture = noise_picture(50, 41);
    std::fill(picture.rgb.begin(), picture.rgb.end(), static_cast<std::uint8_t>(value));
    const Picture resized = resize_bicubic(picture, 83, 28, pool);
    EXPECT_EQ(std::count(resized.rgb.begin(), resized.rgb.end(), value), std::ssize(resized.rgb)) << value;
  }
}

TEST(Resample, ResultDoesNotDependOnThreads) {
  ThreadPool one(1), three(3);
  const Picture picture = noise_picture(201, 99);
  EXPECT_EQ(resize_bicubic(picture, 140, 84, one).rgb, resize_bicubic(picture, 140, 84, three).rgb);
}

TEST(Resample, RefusesEmptySizes) {
  ThreadPool pool(1);
  EXPECT_THROW(resize_bicubic(noise_picture(3, 3), 0, 3, pool), Error);
  EXPECT_THROW(resize_bicubic(noise_picture(3, 3), 3, -1, pool), Error);
  EXPECT_THROW(resize_bicubic(Picture{}, 3, 3, pool), Error);
}

}  // namespace
}  // namespace halftone

// Bicubic resampling against Pillow, and its SIMD passes against the plain loops.
#include "vision/resample.h"

#include <gtest/gtest.h>

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
    EXPECT_EQ(hash_of(reference.rgb), golden["sha256"]) << golden.dump();
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

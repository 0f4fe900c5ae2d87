// Decoding against Pillow. The goldens come from libjpeg-turbo 3.2 and libwebp 1.6; that these tests pass with a
// distribution's older libraries shows that the pixels do not depend on the version.
#include "vision/picture.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "vision_golden.h"

namespace halftone {
namespace {

class Decode : public testing::TestWithParam<std::string> {};

TEST_P(Decode, EqualsPillow) {
  for (const Json& golden : vision_golden()["decode"]) {
    if (golden["file"] != GetParam()) continue;
    const Picture picture = load_picture(kGoldenFolder / GetParam());
    EXPECT_EQ(picture.width, golden["width"]);
    EXPECT_EQ(picture.height, golden["height"]);
    EXPECT_EQ(hash_of(picture.rgb), golden["sha256"].get<std::string>());
    return;
  }
  FAIL() << "no golden";
}

TEST_P(Decode, BeginningSaysTheSizeOfAJpeg) {
  const std::string content = read_file(kGoldenFolder / GetParam());
  const auto bytes = std::as_bytes(std::span(content));
  const Picture picture = decode_picture(bytes, GetParam());
  const bool jpeg = static_cast<unsigned char>(content[0]) == 0xff;
  const std::optional<PictureSize> size = find_picture_size(bytes, GetParam());
  EXPECT_EQ(size, jpeg ? std::optional(PictureSize{picture.height, picture.width}) : std::nullopt);
  if (!jpeg) return;
  EXPECT_THROW(find_picture_size(bytes.first(20), GetParam()), Error);
  EXPECT_THROW(find_picture_size(bytes, GetParam(), picture.width * picture.height - 1), Error);
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const Json& golden : vision_golden()["decode"]) files.push_back(golden["file"]);
  return files;
}

INSTANTIATE_TEST_SUITE_P(Goldens, Decode, testing::ValuesIn(golden_files()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

TEST(Decode, EverySuitePictureEqualsPillow) {
  for (const auto& [name, hash] : vision_golden()["suite"].items()) {
    const Picture picture = load_picture(kSuiteFolder / name);
    EXPECT_EQ(hash_of(picture.rgb).substr(0, 16), hash.get<std::string>()) << name;
  }
}

}  // namespace
}  // namespace halftone

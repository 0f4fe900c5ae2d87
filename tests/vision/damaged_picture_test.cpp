// Files that are cut off, lie or are damaged get an Error, never a crash or a picture that is partly made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "base/error.h"
#include "vision/picture.h"
#include "vision_golden.h"

namespace halftone {
namespace {

std::vector<std::filesystem::path> golden_pictures() {
  std::vector<std::filesystem::path> files;
  for (const Json& golden : vision_golden()["decode"])
    files.push_back(kGoldenFolder / golden["file"].get<std::string>());
  return files;
}

std::string error_of(const std::string& content, std::int64_t max_pixels = 178'956'970) {
  try {
    decode_picture(bytes_of(content), "test.picture", max_pixels);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void put_big_endian(std::string& content, std::size_t at, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) content[at + i] = static_cast<char>(value >> (8 * (bytes - 1 - i)));
}

std::uint32_t crc32_of(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

// The PNG with another size in its header, its checksum made good again.
std::string png_of_size(std::uint32_t width, std::uint32_t height) {
  std::string content = read_file(kGoldenFolder / "rgb_8.png");
  put_big_endian(content, 16, width, 4);
  put_big_endian(content, 20, height, 4);
  put_big_endian(content, 29, crc32_of(std::string_view(content).substr(12, 17)), 4);
  return content;
}

std::string jpeg_of_size(const char* file, std::uint32_t width, std::uint32_t height) {
  std::string content = read_file(kGoldenFolder / file);
  const std::size_t frame = std::min(content.find("\xff\xc0"), content.find("\xff\xc2"));
  put_big_endian(content, frame + 5, height, 2);
  put_big_endian(content, frame + 7, width, 2);
  return content;
}

TEST(DamagedPicture, EveryTruncationIsAnError) {
  for (const auto& path : golden_pictures()) {
    const std::string content = read_file(path);
    for (std::size_t size = 0; size < content.size(); ++size) {
      EXPECT_NE(error_of(content.substr(0, size)), "no error")
          << path << " cut to " << size << " of " << content.size();
    }
  }
}

// Any result but a crash: sanitizers and valgrind watch over this test.
TEST(DamagedPicture, ChangedBytesDoNotCrash) {
  for (const auto& path : golden_pictures()) {
    const std::string content = read_file(path);
    for (std::size_t at = 0; at < content.size(); ++at) {
      std::string changed = content;
      changed[at] = static_cast<char>(changed[at] ^ (at % 2 == 0 ? 0xff : 0x01));
      error_of(changed, 1 << 16);
    }
  }
}

TEST(DamagedPicture, BombsAreRefusedByTheirHeader) {
  EXPECT_THAT(error_of(png_of_size(50000, 50000)),
              testing::HasSubstr("expected at most 178956970 pixels, found 50000 x 50000"));
  EXPECT_THAT(error_of(jpeg_of_size("rgb_420.jpg", 50000, 50000)), testing::HasSubstr("found 50000 x 50000"));
  EXPECT_THAT(error_of(png_of_size(0x7fffffff, 0x7fffffff)), testing::HasSubstr("expected at most 178956970 pixels"));
  std::string webp = read_file(kGoldenFolder / "animated.webp");
  for (const std::size_t at : {25, 28}) webp[at] = 0x3f;  // the canvas in VP8X becomes some 16,000 x 16,000
  EXPECT_THAT(error_of(webp, 1 << 20), testing::HasSubstr("expected at most 1048576 pixels"));
}

TEST(DamagedPicture, LyingSizesAreErrors) {
  EXPECT_THAT(error_of(png_of_size(13000, 13000)), testing::HasSubstr("expected data for 13000 x 13000 pixels"));
  EXPECT_THAT(error_of(jpeg_of_size("rgb_420.jpg", 13000, 13000)),
              testing::HasSubstr("expected data for 13000 x 13000"));
  EXPECT_THAT(error_of(png_of_size(19, 14)), testing::HasSubstr("expected a complete PNG file"));
  EXPECT_THAT(error_of(jpeg_of_size("rgb_420.jpg", 37, 129)),
              testing::HasSubstr("ends before the picture is complete"));
  EXPECT_THAT(error_of(jpeg_of_size("progressive.jpg", 37, 129)),
              testing::HasSubstr("ends before the picture is complete"));
  EXPECT_THAT(error_of(png_of_size(0, 5)), testing::HasSubstr("[test.picture]"));
  EXPECT_THAT(error_of(jpeg_of_size("grey.jpg", 0, 5)), testing::HasSubstr("[test.picture]"));
  EXPECT_THAT(error_of(jpeg_of_size("grey.jpg", 5, 0)), testing::HasSubstr("[test.picture]"));
}

TEST(DamagedPicture, ChunksBeyondTheFileAreErrors) {
  std::string content = read_file(kGoldenFolder / "orientation_raw_profile.png");
  put_big_endian(content, content.find("zTXt") - 4, 0x7fffffff, 4);
  EXPECT_THAT(error_of(content),
              testing::HasSubstr("expected a PNG chunk within the file, found one of 2147483647 bytes"));
}

TEST(DamagedPicture, OtherTypesAreNamed) {
  const std::array<std::pair<std::string, const char*>, 8> cases = {{
      {"", "an empty file"},
      {"GIF89a", "a GIF file"},
      {"BM123456", "a BMP file"},
      {std::string("II*\0rest", 8), "a TIFF file"},
      {"RIFF1234WAVEfmt ", "a RIFF file that is not WebP"},
      {"<html><body>not found</body></html>", "an HTML page"},
      {std::string("\0\0\0\x1c"
                   "ftypavif",
                   12),
       "an AVIF file"},
      {"hello", "an unknown file type"},
  }};
  for (const auto& [content, name] : cases) {
    EXPECT_EQ(error_of(content), fmt::format("[test.picture] expected a JPEG, PNG or WebP picture, found {}", name));
  }
}

TEST(DamagedPicture, FilesAreNamedInErrors) {
  EXPECT_THROW(load_picture(kGoldenFolder / "missing.jpg"), Error);
  EXPECT_THROW(load_picture(kGoldenFolder), Error);
  EXPECT_THROW(load_picture(kGoldenFolder / "vision.json"), Error);
}

}  // namespace
}  // namespace halftone

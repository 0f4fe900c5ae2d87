// Pictures for latency workloads: smooth gradients under rectangles, so that a JPEG decoder has ordinary work.

#include <cstddef>
#include <cstdio>
// jpeglib.h needs the two above
#include <jpeglib.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/random.h"
#include "bench/workload.h"

namespace halftone {
namespace {

constexpr int kQuality = 85;
constexpr std::int64_t kMaxSide = 65'500;  // JPEG's own limit

std::vector<std::uint8_t> draw(std::int64_t width, std::int64_t height, Random& random) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width * height * 3));
  const std::uint64_t phase = random.below(256);
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      std::uint8_t* pixel = &rgb[static_cast<std::size_t>((y * width + x) * 3)];
      pixel[0] = static_cast<std::uint8_t>(x * 255 / width);
      pixel[1] = static_cast<std::uint8_t>(y * 255 / height);
      pixel[2] = static_cast<std::uint8_t>(phase + static_cast<std::uint64_t>((x + y) / 4));
    }
  }
  for (int i = 0; i < 24; ++i) {
    const auto left = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(width)));
    const auto top = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(height)));
    const std::int64_t right = std::min(width, left + width / 8 + 1), bottom = std::min(height, top + height / 8 + 1);
    const std::uint64_t colour = random.next();
    for (std::int64_t y = top; y < bottom; ++y) {
      for (std::int64_t x = left; x < right; ++x) {
        for (std::int64_t c = 0; c < 3; ++c) {
          rgb[static_cast<std::size_t>((y * width + x) * 3 + c)] = static_cast<std::uint8_t>(colour >> (8 * c));
        }
      }
    }
  }
  return rgb;
}

}  // namespace

std::string synthetic_jpeg(std::int64_t width, std::int64_t height, std::uint64_t seed) {
  require(width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide, "synthetic picture",
          "expected sides of 1 to {} pixels, got {} x {}", kMaxSide, width, height);
  Random random(seed);
  const std::vector<std::uint8_t> rgb = draw(width, height, random);
  jpeg_compress_struct encoder = {};
  jpeg_error_mgr errors = {};
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &buffer, &size);
  encoder.image_width = static_cast<JDIMENSION>(width);
  encoder.image_height = static_cast<JDIMENSION>(height);
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, kQuality, TRUE);
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    auto* row = const_cast<std::uint8_t*>(&rgb[encoder.next_scanline * static_cast<std::size_t>(width) * 3]);
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);
  std::string file(reinterpret_cast<const char*>(buffer), size);
  jpeg_destroy_compress(&encoder);
  std::free(buffer);
  return file;
}

}  // namespace halftone

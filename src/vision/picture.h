#pragma once
// Pictures: JPEG, PNG and WebP files to 8-bit RGB, turned upright, as transformers.image_utils.load_image gives them.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace halftone {

struct Picture {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]
};

// Decodes by content, not by name: any mode (grey, palette, alpha, CMYK, 16 bit, 1 bit) to RGB as Pillow's
// convert("RGB") after ImageOps.exif_transpose; of an animation the first frame. EXIF that cannot be read counts as
// upright. `source` names the file in errors. Throws Error for what is no picture, is truncated, lies about its size,
// or has more than max_pixels pixels (Pillow's limit by default). Stricter than Pillow where that would make pixels up
// or overlook damage: JPEG data that ends before the last row, a PNG without its end or with a wrong checksum.
Picture decode_picture(std::span<const std::byte> file, std::string_view source, std::int64_t max_pixels = 178'956'970);
Picture load_picture(const std::filesystem::path& path);

}  // namespace halftone

#pragma once
// Pictures: JPEG, PNG and WebP files to 8-bit RGB, turned upright, as transformers.image_utils.load_image gives them.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace halftone {

struct PictureSize {
  std::int64_t height = 0, width = 0;
  bool operator==(const PictureSize&) const = default;
};

struct Picture {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]
};

// Pillow's limit.
constexpr std::int64_t kMaxPixels = 178'956'970;

// Decodes by content, not by name: any mode (grey, palette, alpha, CMYK, 16 bit, 1 bit) to RGB as Pillow's
// convert("RGB") after ImageOps.exif_transpose; of an animation the first frame. EXIF that cannot be read counts as
// upright. `source` names the file in errors. Throws Error for what is no picture, is truncated, lies about its size,
// or has more than max_pixels pixels. Stricter than Pillow where that would make pixels up or overlook damage: JPEG data
// that ends before the last row, a PNG without its end or with a wrong checksum.
Picture decode_picture(std::span<const std::byte> file, std::string_view source, std::int64_t max_pixels = kMaxPixels);
// The size of what decode_picture() gives, where the beginning of the file says it: of a JPEG. Nothing for other types,
// which may say at their end how they are to be turned. Throws Error for a JPEG whose beginning is damaged.
std::optional<PictureSize> find_picture_size(std::span<const std::byte> file, std::string_view source,
                                             std::int64_t max_pixels = kMaxPixels);
Picture load_picture(const std::filesystem::path& path);

}  // namespace halftone

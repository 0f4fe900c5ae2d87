#pragma once
// What the decoders of the three file types share. Each checks the size in the header before it allocates pixels.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "vision/picture.h"

namespace halftone {

// A picture file on its way through a decoder.
struct EncodedPicture {
  std::span<const std::byte> bytes;
  std::string_view source;  // names the file in errors
  std::int64_t max_pixels = 0;
};

// The metadata that can say how the picture is to be turned.
struct PictureMetadata {
  std::string exif;  // a TIFF header and its directories, perhaps after "Exif\0\0"
  std::string xmp;
};

// The size before it is turned upright.
PictureSize jpeg_size(const EncodedPicture& file, PictureMetadata& metadata);
Picture decode_jpeg(const EncodedPicture& file, PictureMetadata& metadata);
Picture decode_png(const EncodedPicture& file, PictureMetadata& metadata);
Picture decode_webp(const EncodedPicture& file, PictureMetadata& metadata);

// Throws Error unless 1 <= width * height <= max_pixels.
void check_size(const EncodedPicture& file, std::int64_t width, std::int64_t height);

// width * height pixels of zeros.
Picture blank_picture(std::int64_t width, std::int64_t height);

}  // namespace halftone

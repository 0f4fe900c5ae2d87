#include "vision/picture.h"

#include "base/error.h"
#include "base/file.h"
#include "vision/codec.h"
#include "vision/orientation.h"

namespace halftone {
namespace {

bool starts_with(std::span<const std::byte> bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), prefix.size()) == prefix;
}

// The name of a type that is recognized only to be refused by name.
std::string_view name_of_other_type(std::span<const std::byte> bytes) {
  if (bytes.empty()) return "an empty file";
  if (starts_with(bytes, "GIF8")) return "a GIF file";
  if (starts_with(bytes, "BM")) return "a BMP file";
  if (starts_with(bytes, std::string_view("II*\0", 4)) || starts_with(bytes, std::string_view("MM\0*", 4))) {
    return "a TIFF file";
  }
  if (starts_with(bytes, "%PDF")) return "a PDF file";
  if (starts_with(bytes, "RIFF")) return "a RIFF file that is not WebP";
  if (bytes.size() >= 12 && starts_with(bytes.subspan(4), "ftypavif")) return "an AVIF file";
  if (bytes.size() >= 12 && starts_with(bytes.subspan(4), "ftyphei")) return "a HEIF file";
  if (starts_with(bytes, std::string_view("\0\0\0\x0cjP  ", 8)) || starts_with(bytes, "\xff\x4f\xff\x51")) {
    return "a JPEG 2000 file";
  }
  if (starts_with(bytes, "<svg") || starts_with(bytes, "<?xml")) return "an SVG or XML file";
  if (starts_with(bytes, "<!DOCTYPE") || starts_with(bytes, "<html")) return "an HTML page";
  return "an unknown file type";
}

bool is_jpeg(std::span<const std::byte> bytes) { return starts_with(bytes, "\xff\xd8\xff"); }

bool is_webp(std::span<const std::byte> bytes) {
  return starts_with(bytes, "RIFF") && bytes.size() >= 12 && starts_with(bytes.subspan(8), "WEBP");
}

}  // namespace

void check_size(const EncodedPicture& file, std::int64_t width, std::int64_t height) {
  require(width > 0 && height > 0, file.source, "expected a picture of at least one pixel, found {} x {}", width,
          height);
  require(width <= file.max_pixels / height, file.source, "expected at most {} pixels, found {} x {}", file.max_pixels,
          width, height);
}

Picture blank_picture(std::int64_t width, std::int64_t height) {
  Picture picture{.width = width, .height = height, .rgb = {}};
  picture.rgb.resize(static_cast<std::size_t>(width * height * 3));
  return picture;
}

Picture decode_picture(std::span<const std::byte> file, std::string_view source, std::int64_t max_pixels) {
  const EncodedPicture encoded{.bytes = file, .source = source, .max_pixels = max_pixels};
  PictureMetadata metadata;
  Picture picture;
  if (is_jpeg(file)) {
    picture = decode_jpeg(encoded, metadata);
  } else if (starts_with(file, "\x89PNG\r\n\x1a\n")) {
    picture = decode_png(encoded, metadata);
  } else if (is_webp(file)) {
    picture = decode_webp(encoded, metadata);
  } else {
    fail(source, "expected a JPEG, PNG or WebP picture, found {}", name_of_other_type(file));
  }
  return turn_upright(std::move(picture), find_orientation(metadata));
}

std::optional<PictureSize> find_picture_size(std::span<const std::byte> file, std::string_view source,
                                             std::int64_t max_pixels) {
  if (!is_jpeg(file)) return {};
  PictureMetadata metadata;
  const PictureSize size = jpeg_size({.bytes = file, .source = source, .max_pixels = max_pixels}, metadata);
  return swaps_axes(find_orientation(metadata)) ? PictureSize{size.width, size.height} : size;
}

Picture load_picture(const std::filesystem::path& path) {
  const std::string content = read_file(path);
  return decode_picture(std::as_bytes(std::span(content)), path.string());
}

}  // namespace halftone

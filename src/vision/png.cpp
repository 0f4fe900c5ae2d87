// PNG by libpng, with Pillow's meaning of every mode: alpha is dropped, not blended; 16-bit grey is clipped to 255,
// 16-bit colour keeps its high byte; gamma and profiles are ignored.

#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "vision/codec.h"

namespace halftone {
namespace {

constexpr std::size_t kSignatureBytes = 8;
// No byte of deflate's output costs less than this share of a byte of its input.
constexpr std::int64_t kMaxDeflateRatio = 1032;
constexpr png_alloc_size_t kMaxChunkMemory = 1 << 20;

struct PngReader {
  png_structp png = nullptr;
  png_infop info = nullptr, end = nullptr;
  std::span<const std::byte> rest;
  std::array<char, 256> message{};

  PngReader() = default;
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, &end); }
};

// What the chunk headers say, found before libpng sees the file.
struct ChunkSummary {
  std::int64_t data_bytes = 0;  // of all IDAT chunks
  std::string exif;
};

std::int64_t big_endian_32(const std::byte* at) {
  std::int64_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::int64_t>(at[i]);
  return value;
}

// Walks over the chunks up to IEND. Throws Error when one reaches beyond the end of the file, so that no length that
// libpng reads can exceed the file.
ChunkSummary walk_chunks(const EncodedPicture& file) {
  constexpr std::size_t kAround = 12;  // length and name before a chunk's data, CRC after it
  ChunkSummary summary;
  auto rest = file.bytes.subspan(kSignatureBytes);
  while (true) {
    require(rest.size() >= kAround, file.source, "expected a PNG file up to its IEND chunk, found it truncated");
    const std::int64_t length = big_endian_32(rest.data());
    const std::string_view name(reinterpret_cast<const char*>(rest.data()) + 4, 4);
    if (name == "IEND") return summary;
    require(length <= static_cast<std::int64_t>(rest.size() - kAround), file.source,
            "expected a PNG chunk within the file, found one of {} bytes where {} are left", length,
            rest.size() - kAround);
    const auto data = rest.subspan(8, static_cast<std::size_t>(length));
    if (name == "IDAT") summary.data_bytes += length;
    if (name == "eXIf") summary.exif.assign(reinterpret_cast<const char*>(data.data()), data.size());
    rest = rest.subspan(kAround + data.size());
  }
}

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* reader = static_cast<PngReader*>(png_get_error_ptr(png));
  std::snprintf(reader->message.data(), reader->message.size(), "%s", text);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, std::size_t count) {
  auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > reader->rest.size()) png_error(png, "truncated");
  std::memcpy(out, reader->rest.data(), count);
  reader->rest = reader->rest.subspan(count);
}

// All of these return false after an error of the library, with its text in reader.message. Errors leave the library by
// longjmp, so that only functions without objects to destroy call it.
bool read_header(PngReader& reader) {
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  if (reader.png == nullptr) return false;
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  reader.info = png_create_info_struct(reader.png);
  reader.end = png_create_info_struct(reader.png);
  if (reader.info == nullptr || reader.end == nullptr) return false;
  png_set_chunk_malloc_max(reader.png, kMaxChunkMemory);
  png_set_user_limits(reader.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_crc_action(reader.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_read_fn(reader.png, &reader, read_bytes);
  png_read_info(reader.png, reader.info);
  return true;
}

// One or two bytes a sample: 16-bit grey keeps both, palettes stay indices.
bool set_transforms(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_packing(reader.png);
  if (png_get_color_type(reader.png, reader.info) != PNG_COLOR_TYPE_GRAY) png_set_strip_16(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_rows(PngReader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, reader.end);
  return true;
}

// Colours of indices; those beyond the palette's end are black.
std::array<std::array<std::uint8_t, 3>, 256> palette_of(PngReader& reader) {
  std::array<std::array<std::uint8_t, 3>, 256> palette{};
  png_colorp colors = nullptr;
  int count = 0;
  if (png_get_PLTE(reader.png, reader.info, &colors, &count) != 0) {
    for (int i = 0; i < std::min(count, 256); ++i) {
      palette[static_cast<std::size_t>(i)] = {colors[i].red, colors[i].green, colors[i].blue};
    }
  }
  return palette;
}

// What each byte of a row becomes, for grey of up to 8 bits and for palettes.
std::array<std::array<std::uint8_t, 3>, 256> byte_colors(PngReader& reader, int color_type, int bit_depth) {
  if (color_type == PNG_COLOR_TYPE_PALETTE) return palette_of(reader);
  std::array<std::array<std::uint8_t, 3>, 256> colors{};
  const int largest = (1 << bit_depth) - 1;
  for (int i = 0; i <= largest; ++i)
    colors[static_cast<std::size_t>(i)].fill(static_cast<std::uint8_t>(i * 255 / largest));
  return colors;
}

// Rows of [width, channels] bytes: the first of one or two channels is grey, the first three of four are RGB.
void drop_alpha(const std::uint8_t* row, std::int64_t width, int channels, std::uint8_t* rgb) {
  for (std::int64_t x = 0; x < width; ++x, row += channels, rgb += 3) {
    for (int c = 0; c < 3; ++c) rgb[c] = row[channels == 4 ? c : 0];
  }
}

void clip_grey_16(const std::uint8_t* row, std::int64_t width, std::uint8_t* rgb) {
  for (std::int64_t x = 0; x < width; ++x, row += 2, rgb += 3) std::fill_n(rgb, 3, row[0] == 0 ? row[1] : 255);
}

struct PngLayout {
  std::int64_t width = 0, height = 0;
  int color_type = 0, bit_depth = 0;
};

PngLayout layout_of(const PngReader& reader) {
  return {png_get_image_width(reader.png, reader.info), png_get_image_height(reader.png, reader.info),
          png_get_color_type(reader.png, reader.info), png_get_bit_depth(reader.png, reader.info)};
}

void convert_rows(PngReader& reader, const PngLayout& layout, const std::vector<png_bytep>& rows, Picture& picture) {
  const auto colors = layout.bit_depth <= 8 ? byte_colors(reader, layout.color_type, layout.bit_depth)
                                            : std::array<std::array<std::uint8_t, 3>, 256>{};
  const bool grey = layout.color_type == PNG_COLOR_TYPE_GRAY;
  for (std::int64_t y = 0; y < layout.height; ++y) {
    const std::uint8_t* row = rows[static_cast<std::size_t>(y)];
    std::uint8_t* rgb = &picture.rgb[static_cast<std::size_t>(y * layout.width * 3)];
    if (grey && layout.bit_depth == 16) {
      clip_grey_16(row, layout.width, rgb);
    } else if (grey || layout.color_type == PNG_COLOR_TYPE_PALETTE) {
      for (std::int64_t x = 0; x < layout.width; ++x) std::copy_n(colors[row[x]].data(), 3, rgb + 3 * x);
    } else {
      drop_alpha(row, layout.width, layout.color_type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2 : 4, rgb);
    }
  }
}

// "\nexif\n      12\n4d4d002a...": EXIF as ImageMagick writes it into a text chunk.
std::string exif_of_profile_text(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string exif;
  int high = -1;
  for (const char c : text) {
    const std::string_view kDigits = "0123456789abcdef";
    const std::size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
    if (digit == std::string_view::npos) continue;
    if (high < 0) {
      high = static_cast<int>(digit);
    } else {
      exif += static_cast<char>(high * 16 + static_cast<int>(digit));
      high = -1;
    }
  }
  return exif;
}

void read_text(const PngReader& reader, png_infop info, PictureMetadata& metadata, bool has_exif_chunk) {
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(reader.png, info, &texts, &count);
  for (int i = 0; i < count; ++i) {
    if (texts[i].key == nullptr || texts[i].text == nullptr) continue;
    const std::string_view key = texts[i].key, text = texts[i].text;
    if (key == "XML:com.adobe.xmp") metadata.xmp = text;
    if (key == "Raw profile type exif" && !has_exif_chunk) metadata.exif = exif_of_profile_text(text);
  }
}

[[noreturn]] void fail_with_message(const EncodedPicture& file, const PngReader& reader) {
  fail(file.source, "expected a complete PNG file, found: {}", reader.message.data());
}

}  // namespace

Picture decode_png(const EncodedPicture& file, PictureMetadata& metadata) {
  ChunkSummary chunks = walk_chunks(file);
  PngReader reader;
  reader.rest = file.bytes;
  if (!read_header(reader)) fail_with_message(file, reader);
  const PngLayout layout = layout_of(reader);
  check_size(file, layout.width, layout.height);
  const std::int64_t packed_row = static_cast<std::int64_t>(png_get_rowbytes(reader.png, reader.info));
  require(packed_row * layout.height <= chunks.data_bytes * kMaxDeflateRatio, file.source,
          "expected data for {} x {} pixels, found {} bytes of it", layout.width, layout.height, chunks.data_bytes);

  if (!set_transforms(reader)) fail_with_message(file, reader);
  Picture picture = blank_picture(layout.width, layout.height);
  const std::size_t row_bytes = png_get_rowbytes(reader.png, reader.info);
  const bool is_rgb = layout.color_type == PNG_COLOR_TYPE_RGB;
  std::vector<std::uint8_t> samples(is_rgb ? 0 : row_bytes * static_cast<std::size_t>(layout.height));
  std::vector<png_bytep> rows(static_cast<std::size_t>(layout.height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = (is_rgb ? picture.rgb : samples).data() + y * row_bytes;
  if (!read_rows(reader, rows.data())) fail_with_message(file, reader);
  if (!is_rgb) convert_rows(reader, layout, rows, picture);

  const bool has_exif_chunk = !chunks.exif.empty();
  metadata.exif = std::move(chunks.exif);
  read_text(reader, reader.info, metadata, has_exif_chunk);
  read_text(reader, reader.end, metadata, has_exif_chunk);
  return picture;
}

}  // namespace halftone

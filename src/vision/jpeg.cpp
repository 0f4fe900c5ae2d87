// JPEG by libjpeg-turbo with its default settings (accurate integer DCT, smooth chroma upsampling), which are Pillow's.

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>

// jpeglib.h needs size_t and FILE declared before it, and jerror.h the version of the interface from jpeglib.h: it
// numbers the messages by it.
#include <jpeglib.h>
//
#include <jerror.h>

#include "base/error.h"
#include "vision/codec.h"

namespace halftone {
namespace {

// A progressive file may hold any number of scans over the whole picture, each of a few bytes.
constexpr int kMaxScans = 1000;
// The first scan of a Huffman-coded component spends at least one bit on a block of 64 samples; with sampling factors
// of at most 4 no picture has more than this many pixels for a byte.
constexpr std::int64_t kMaxPixelsPerByte = 1024;

// libjpeg's state. Errors leave the library by longjmp, so that only functions without objects to destroy call it.
struct JpegDecoder {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr input{};
  jpeg_progress_mgr progress{};
  std::jmp_buf on_error{};
  std::array<char, JMSG_LENGTH_MAX> message{};

  JpegDecoder() = default;
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
};

[[noreturn]] void give_up(j_common_ptr info) {
  auto* decoder = static_cast<JpegDecoder*>(info->client_data);
  info->err->format_message(info, decoder->message.data());
  std::longjmp(decoder->on_error, 1);
}

[[noreturn]] void give_up(j_common_ptr info, const char* reason) {
  auto* decoder = static_cast<JpegDecoder*>(info->client_data);
  std::snprintf(decoder->message.data(), decoder->message.size(), "%s", reason);
  std::longjmp(decoder->on_error, 1);
}

// Of the warnings only this one matters: the pixels that follow would be made up.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_HIT_MARKER)
    give_up(info, "the data ends before the picture is complete");
}

void ignore_output(j_common_ptr) {}
void ignore_source(j_decompress_ptr) {}

boolean refuse_more_input(j_decompress_ptr info) {
  give_up(reinterpret_cast<j_common_ptr>(info), "truncated: the file ends before the picture is complete");
}

void skip_input(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  jpeg_source_mgr& input = *info->src;
  if (static_cast<std::size_t>(count) > input.bytes_in_buffer) refuse_more_input(info);
  input.next_input_byte += count;
  input.bytes_in_buffer -= static_cast<std::size_t>(count);
}

void limit_scans(j_common_ptr info) {
  const auto* decompress = reinterpret_cast<j_decompress_ptr>(info);
  if (decompress->input_scan_number > kMaxScans) give_up(info, "expected at most 1000 scans, found more");
}

void set_up(JpegDecoder& decoder, std::span<const std::byte> bytes) {
  jpeg_decompress_struct& info = decoder.info;
  info.err = jpeg_std_error(&decoder.errors);
  info.client_data = &decoder;
  decoder.errors.error_exit = [](j_common_ptr failed) { give_up(failed); };
  decoder.errors.emit_message = on_message;
  decoder.errors.output_message = ignore_output;
  decoder.progress.progress_monitor = limit_scans;
  decoder.input.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
  decoder.input.bytes_in_buffer = bytes.size();
  decoder.input.init_source = ignore_source;
  decoder.input.term_source = ignore_source;
  decoder.input.fill_input_buffer = refuse_more_input;
  decoder.input.skip_input_data = skip_input;
  decoder.input.resync_to_restart = jpeg_resync_to_restart;
}

// All of these return false after an error of the library, with its text in decoder.message.
bool read_header(JpegDecoder& decoder) {
  if (setjmp(decoder.on_error) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  decoder.info.src = &decoder.input;
  decoder.info.progress = &decoder.progress;
  constexpr unsigned kLongestMarker = 0xffff;
  jpeg_save_markers(&decoder.info, JPEG_APP0 + 1, kLongestMarker);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

bool start(JpegDecoder& decoder) {
  if (setjmp(decoder.on_error) != 0) return false;
  jpeg_start_decompress(&decoder.info);
  return true;
}

bool read_row(JpegDecoder& decoder, std::uint8_t* row) {
  if (setjmp(decoder.on_error) != 0) return false;
  JSAMPROW rows[] = {row};
  jpeg_read_scanlines(&decoder.info, rows, 1);
  return true;
}

std::string_view marker_text(const jpeg_marker_struct& marker) {
  return {reinterpret_cast<const char*>(marker.data), marker.data_length};
}

// EXIF may be split over several markers; of several XMP packets the last counts.
void read_metadata(const JpegDecoder& decoder, PictureMetadata& metadata) {
  constexpr std::string_view kExif("Exif\0\0", 6), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  for (const auto* marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view text = marker_text(*marker);
    if (text.starts_with(kExif)) metadata.exif += text.substr(metadata.exif.empty() ? 0 : kExif.size());
    if (text.starts_with(kXmp)) metadata.xmp = text.substr(kXmp.size());
  }
}

void grey_to_rgb(const std::uint8_t* grey, std::int64_t width, std::uint8_t* rgb) {
  for (std::int64_t x = 0; x < width; ++x) std::fill_n(rgb + 3 * x, 3, grey[x]);
}

// a * b / 255, rounded, as Pillow computes it.
int scale_by_255ths(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// CMYK files store their inks inverted (Adobe's custom, which Pillow assumes of all), so 255 is no ink.
void inverted_cmyk_to_rgb(const std::uint8_t* cmyk, std::int64_t width, std::uint8_t* rgb) {
  for (std::int64_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = static_cast<std::uint8_t>(std::clamp(light - scale_by_255ths(255 - cmyk[c], light), 0, 255));
    }
  }
}

J_COLOR_SPACE output_space(int components) {
  if (components == 1) return JCS_GRAYSCALE;
  return components == 3 ? JCS_RGB : JCS_CMYK;
}

Picture read_pixels(JpegDecoder& decoder, std::string_view source) {
  const std::int64_t width = decoder.info.output_width, height = decoder.info.output_height;
  const int components = decoder.info.output_components;
  Picture picture = blank_picture(width, height);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(width) * 4);
  for (std::int64_t y = 0; y < height; ++y) {
    std::uint8_t* rgb = &picture.rgb[static_cast<std::size_t>(y * width * 3)];
    if (!read_row(decoder, components == 3 ? rgb : row.data())) {
      fail(source, "expected a complete JPEG file, found in row {} of {}: {}", y, height, decoder.message.data());
    }
    if (components == 1) grey_to_rgb(row.data(), width, rgb);
    if (components == 4) inverted_cmyk_to_rgb(row.data(), width, rgb);
  }
  return picture;
}

// Reads and checks all that stands before the pixels.
void read_beginning(const EncodedPicture& file, JpegDecoder& decoder, PictureMetadata& metadata) {
  set_up(decoder, file.bytes);
  if (!read_header(decoder)) fail(file.source, "expected a JPEG file, found: {}", decoder.message.data());
  const jpeg_decompress_struct& info = decoder.info;
  check_size(file, info.image_width, info.image_height);
  require(info.num_components == 1 || info.num_components == 3 || info.num_components == 4, file.source,
          "expected a JPEG file of 1, 3 or 4 components, found {}", info.num_components);
  const std::int64_t most = static_cast<std::int64_t>(file.bytes.size()) * kMaxPixelsPerByte;
  require(info.arith_code || static_cast<std::int64_t>(info.image_width) * info.image_height <= most, file.source,
          "expected data for {} x {} pixels, found a JPEG file of {} bytes", info.image_width, info.image_height,
          file.bytes.size());
  read_metadata(decoder, metadata);
}

}  // namespace

PictureSize jpeg_size(const EncodedPicture& file, PictureMetadata& metadata) {
  JpegDecoder decoder;
  read_beginning(file, decoder, metadata);
  return {decoder.info.image_height, decoder.info.image_width};
}

Picture decode_jpeg(const EncodedPicture& file, PictureMetadata& metadata) {
  JpegDecoder decoder;
  read_beginning(file, decoder, metadata);
  decoder.info.out_color_space = output_space(decoder.info.num_components);
  if (!start(decoder)) fail(file.source, "expected a complete JPEG file, found: {}", decoder.message.data());
  return read_pixels(decoder, file.source);
}

}  // namespace halftone

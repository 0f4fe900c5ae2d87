// WebP by libwebp: of an animation the first frame on its canvas; alpha is dropped, not blended.

#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "vision/codec.h"

namespace halftone {
namespace {

struct Deleter {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
  void operator()(WebPAnimDecoder* decoder) const { WebPAnimDecoderDelete(decoder); }
};

std::string read_chunk(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator chunk;
  std::string content;
  if (WebPDemuxGetChunk(demuxer, name, 1, &chunk) != 0) {
    content.assign(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return content;
}

bool decode_still(const WebPData& data, Picture& picture) {
  return WebPDecodeRGBInto(data.bytes, data.size, picture.rgb.data(), picture.rgb.size(),
                           static_cast<int>(picture.width * 3)) != nullptr;
}

bool decode_first_frame(const WebPData& data, Picture& picture) {
  const std::unique_ptr<WebPAnimDecoder, Deleter> decoder(WebPAnimDecoderNew(&data, nullptr));
  std::uint8_t* rgba = nullptr;
  int timestamp = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp) == 0) return false;
  for (std::size_t i = 0; i < picture.rgb.size(); i += 3, rgba += 4) std::copy_n(rgba, 3, &picture.rgb[i]);
  return true;
}

}  // namespace

Picture decode_webp(const EncodedPicture& file, PictureMetadata& metadata) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(file.bytes.data()), file.bytes.size()};
  const std::unique_ptr<WebPDemuxer, Deleter> demuxer(WebPDemux(&data));
  require(demuxer != nullptr, file.source, "expected a complete WebP file, found it truncated or damaged");
  const std::int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const std::int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  check_size(file, width, height);
  metadata.exif = read_chunk(demuxer.get(), "EXIF");
  metadata.xmp = read_chunk(demuxer.get(), "XMP ");

  Picture picture = blank_picture(width, height);
  const bool animated = (WebPDemuxGetI(demuxer.get(), WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG) != 0;
  require(animated ? decode_first_frame(data, picture) : decode_still(data, picture), file.source,
          "expected WebP data for {} x {} pixels, found it truncated or damaged", width, height);
  return picture;
}

}  // namespace halftone

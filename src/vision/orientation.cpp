#include "vision/orientation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

namespace halftone {
namespace {

constexpr int kOrientationTag = 274;

// Bytes of one value of each TIFF type; 0 for types that do not exist.
constexpr std::array<std::uint64_t, 17> kTypeBytes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

class TiffReader {
 public:
  TiffReader(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  bool has(std::uint64_t at, std::uint64_t count) const { return at <= bytes_.size() && count <= bytes_.size() - at; }

  // `width` bytes at `at` as an unsigned number; has() must hold.
  std::uint64_t number(std::uint64_t at, int width) const {
    std::uint64_t value = 0;
    for (int i = 0; i < width; ++i) {
      const auto byte =
          static_cast<std::uint8_t>(bytes_[at + static_cast<std::uint64_t>(big_endian_ ? i : width - 1 - i)]);
      value = value << 8 | byte;
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

std::string_view without_exif_prefix(std::string_view exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  for (int i = 0; i < 2 && exif.starts_with(kPrefix); ++i) exif.remove_prefix(kPrefix.size());
  return exif;
}

// A number that is an orientation, 0 otherwise.
int whole_orientation(double value) {
  return value >= 1 && value <= 8 && value == std::floor(value) ? static_cast<int>(value) : 0;
}

// A fraction, a float or a double that holds a whole number counts as one, as in Pillow.
std::optional<int> real_value(const TiffReader& tiff, std::uint64_t at, std::uint64_t type) {
  constexpr std::uint64_t kRational = 5, kSignedRational = 10, kFloat = 11, kDouble = 12;
  switch (type) {
    case kRational:
    case kSignedRational: {
      const std::uint64_t below = tiff.number(at + 4, 4);
      return below == 0 ? 0 : whole_orientation(static_cast<double>(tiff.number(at, 4)) / static_cast<double>(below));
    }
    case kFloat:
      return whole_orientation(std::bit_cast<float>(static_cast<std::uint32_t>(tiff.number(at, 4))));
    case kDouble:
      return whole_orientation(std::bit_cast<double>(tiff.number(at, 8)));
    default:
      return std::nullopt;
  }
}

// The integer in a directory entry whose first value starts at `at`; nothing for types that hold no number.
std::optional<int> integer_value(const TiffReader& tiff, std::uint64_t at, std::uint64_t type) {
  constexpr std::uint64_t kShort = 3, kLong = 4, kSignedByte = 6, kSignedShort = 8, kSignedLong = 9, kIfd = 13;
  switch (type) {
    case kShort:
    case kSignedShort:
      return static_cast<int>(tiff.number(at, 2));
    case kLong:
    case kSignedLong:
    case kIfd:
      return static_cast<int>(std::min<std::uint64_t>(tiff.number(at, 4), 9));
    case kSignedByte:
      return static_cast<int>(tiff.number(at, 1));
    default:
      return real_value(tiff, at, type);
  }
}

// The first directory's orientation. As in Pillow, values that claim more bytes than there are count as missing, and
// reading stops at the first entry that points outside.
std::optional<int> exif_orientation(std::string_view exif) {
  exif = without_exif_prefix(exif);
  if (exif.size() < 8) return std::nullopt;
  const std::string_view magic = exif.substr(0, 4);
  const bool big = magic == std::string_view("MM\0*", 4) || magic == std::string_view("MM*\0", 4);
  const bool little = magic == std::string_view("II*\0", 4) || magic == std::string_view("II\0*", 4);
  if (!big && !little) return std::nullopt;
  const TiffReader tiff(exif, big);

  std::optional<int> orientation;
  std::uint64_t at = tiff.number(4, 4);
  if (!tiff.has(at, 2)) return std::nullopt;
  const std::uint64_t entries = tiff.number(at, 2);
  at += 2;
  std::uint64_t total_size = 0;
  for (std::uint64_t i = 0; i < entries && !orientation && tiff.has(at, 12); ++i, at += 12) {
    const std::uint64_t tag = tiff.number(at, 2), type = tiff.number(at + 2, 2), count = tiff.number(at + 4, 4);
    if (type >= kTypeBytes.size() || kTypeBytes[type] == 0 || count == 0) continue;
    const std::uint64_t size = count * kTypeBytes[type];
    const bool is_elsewhere = size > 4;
    if (is_elsewhere) total_size += size;
    if (total_size > exif.size() && is_elsewhere) continue;
    const std::uint64_t value_at = is_elsewhere ? tiff.number(at + 8, 4) : at + 8;
    if (!tiff.has(value_at, size)) break;
    if (tag == kOrientationTag) orientation = integer_value(tiff, value_at, type).value_or(1);
  }
  return orientation;
}

// XMP writes tiff:Orientation="6" or <tiff:Orientation>6</tiff:Orientation>.
std::optional<int> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (std::size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return std::nullopt;
}

}  // namespace

int find_orientation(const PictureMetadata& metadata) {
  std::optional<int> orientation = exif_orientation(metadata.exif);
  if (!orientation) orientation = xmp_orientation(metadata.xmp);
  return orientation && *orientation >= 1 && *orientation <= 8 ? *orientation : 1;
}

Picture turn_upright(Picture picture, int orientation) {
  if (orientation == 1) return picture;
  const bool swaps = swaps_axes(orientation);
  const std::int64_t width = picture.width, height = picture.height;
  Picture turned = blank_picture(swaps ? height : width, swaps ? width : height);
  // Source pixel of the target pixel (x, y): columns are mirrored for 2, 3, 7, 8 and rows for 3, 4, 6, 7.
  const bool mirrors_columns = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirrors_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  std::uint8_t* out = turned.rgb.data();
  for (std::int64_t y = 0; y < turned.height; ++y) {
    for (std::int64_t x = 0; x < turned.width; ++x, out += 3) {
      std::int64_t column = swaps ? y : x, row = swaps ? x : y;
      if (mirrors_columns) column = width - 1 - column;
      if (mirrors_rows) row = height - 1 - row;
      std::memcpy(out, &picture.rgb[static_cast<std::size_t>((row * width + column) * 3)], 3);
    }
  }
  return turned;
}

}  // namespace halftone

// From a QTensor in host memory to a LinearWeight on the device.
#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/pack_groups.h"
#include "backend/cuda/device_uploader.h"
#include "backend/cuda/linear_weight.h"
#include "base/rounding.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/e8m0.h"
#include "formats/nf4.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda linear";
constexpr std::int64_t kRowAlignment = 16;

// What stands beside groups, or beside a row that has a zero.
bool by_group(const QuantSpec& spec) {
  return spec.granularity == Granularity::kGroup || spec.granularity == Granularity::kTile || spec.asymmetric;
}

bool holds_nan(std::span<const std::uint8_t> codes, std::uint8_t mask, std::uint8_t nan) {
  constexpr std::size_t kRun = 64;  // a length that is known becomes vectors
  std::uint8_t found = 0;
  std::size_t i = 0;
  for (; i + kRun <= codes.size(); i += kRun) {
    for (std::size_t j = 0; j < kRun; ++j) found |= static_cast<std::uint8_t>((codes[i + j] & mask) == nan);
  }
  for (; i < codes.size(); ++i) found |= static_cast<std::uint8_t>((codes[i] & mask) == nan);
  return found != 0;
}

// The kernels decode numbers alone; null for codes that are nothing else.
DeviceUploader::Inspect number_check(Element element, const std::string& name) {
  if (element != Element::kE4M3) return {};
  return [name](std::span<const std::uint8_t> codes) {
    require(!holds_nan(codes, 0x7f, e4m3::kNan), name, "expected finite weights, found NaN");
  };
}

DeviceUploader::Inspect number_check(DType scales, const std::string& name) {
  const bool e4m3 = scales == DType::kF8E4M3;
  if (!e4m3 && scales != DType::kF8E8M0) return {};
  return [e4m3, name](std::span<const std::uint8_t> codes) {
    require(!holds_nan(codes, e4m3 ? 0x7f : 0xff, e4m3 ? e4m3::kNan : e8m0::kNan), name,
            "expected finite scales, found NaN");
  };
}

// The weight before anything is copied: what follows from its format.
LinearWeight describe(const LinearSource& source) {
  LinearWeight weight;
  weight.spec = source.spec();
  weight.input = source.input;
  weight.rows = source.rows();
  weight.cols = source.cols();
  weight.group = scale_group(source.spec(), source.cols());
  return weight;
}

std::int64_t row_bytes_of(const LinearWeight& weight) {
  const CodeType type = weight.code_type();
  if (lies_in_tiles(type)) return divide_up(weight.cols, kTileCols) * kTileBytes;
  const bool one = type == CodeType::kInt8 || type == CodeType::kE4M3;
  const std::int64_t element = one ? 1 : type == CodeType::kF32 ? 4 : 2;
  // as if in the order of halves: which it is is not known before the scales
  const std::int64_t unit = one && by_group(weight.spec) ? 4 * kRowAlignment : std::max(kRowAlignment, 8 * element);
  return round_up(weight.cols * element, unit);
}

std::int64_t code_bytes_of(const LinearWeight& weight) {
  return row_bytes_of(weight) * (lies_in_tiles(weight.code_type()) ? divide_up(weight.rows, kTileRows) : weight.rows);
}

GroupValues values_of(DType stored, DType kept) {
  if (stored != kept) return stored == DType::kF8E4M3 ? GroupValues::kE4M3 : GroupValues::kE8M0;
  switch (dtype_size(stored)) {
    case 1:
      return GroupValues::kBytes;
    case 2:
      return GroupValues::kShorts;
    default:
      return GroupValues::kWords;
  }
}

class Upload {
 public:
  Upload(const LinearSource& source, DeviceArena& arena, DeviceUploader& uploader, const void* codes,
         std::span<const std::string> names)
      : source_(source), arena_(arena), uploader_(uploader), names_(names), weight_(describe(source)) {
    weight_.row_bytes = row_bytes_of(weight_);
    weight_.codes = codes;
    weight_.nbytes = codes ? code_bytes_of(weight_) : 0;
  }

  // The scales first: they decide in what order codes lie.
  LinearWeight run() {
    if (by_group(weight_.spec)) {
      upload_groups();
    } else if (weight_.spec.granularity != Granularity::kNone) {
      upload_row_scales();
      upload_row_products();
    }
    if (!weight_.codes) upload_codes();
    upload_rows();
    upload_tile_scales();
    return weight_;
  }

 private:
  std::string name_of(const QTensor& part) const {
    return names_.empty() ? std::string(kWhere) : names_[static_cast<std::size_t>(&part - source_.weights.data())];
  }
  Launch launch() const { return {uploader_.stream().launch().stream, false}; }

  // Memory of the weight whose bytes are 0.
  template <typename T = char>
  T* take_zeros(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    T* target = arena_.allocate<T>(static_cast<std::size_t>(count));
    check(cudaMemsetAsync(target, 0, bytes, launch().stream), kWhere);
    weight_.nbytes += static_cast<std::int64_t>(bytes);
    return target;
  }

  template <typename T>
  const T* copy(const std::vector<T>& values) {
    T* target = arena_.allocate<T>(values.size());
    uploader_.copy(target, values.data(), values.size() * sizeof(T));
    weight_.nbytes += static_cast<std::int64_t>(values.size() * sizeof(T));
    return target;
  }

  // [N]: value(part, its index, its row)
  template <typename Value>
  std::vector<float> row_values(Value value) const {
    std::vector<float> values;
    for (std::size_t i = 0; i < source_.weights.size(); ++i) {
      for (std::int64_t row = 0; row < source_.weights[i].rows(); ++row) {
        values.push_back(value(source_.weights[i], i, row));
      }
    }
    return values;
  }

  void upload_row_scales() {
    for (const QTensor& part : source_.weights) {
      const DeviceUploader::Inspect inspect = number_check(part.scales.dtype(), name_of(part));
      if (inspect) inspect({part.scales.bits<std::uint8_t>(), static_cast<std::size_t>(part.scales.numel())});
    }
    weight_.row_scales =
        copy(row_values([](const QTensor& part, std::size_t, std::int64_t row) { return scale_at(part, row, 0); }));
  }

  void upload_row_products() {
    if (weight_.spec.element != Element::kE4M3) return;
    const std::vector<float> products = row_values([this](const QTensor& part, std::size_t index, std::int64_t row) {
      return scale_at(part, row, 0) * source_.factor(index);
    });
    weight_.row_products = copy(products);
    const bool one = std::all_of(products.begin(), products.end(), [&](float value) { return value == products[0]; });
    if (one && !products.empty()) weight_.row_product = products[0];
  }

  void upload_rows() {
    weight_.row_factors =
        copy(row_values([this](const QTensor&, std::size_t part, std::int64_t) { return source_.factor(part); }));
    bool one = true;
    for (std::size_t i = 0; i < source_.weights.size(); ++i) one &= source_.factor(i) == source_.factor(0);
    weight_.row_factor = one ? source_.factor(0) : 0.0f;
    bool biased = false;
    for (const Tensor& bias : source_.biases) biased |= bias.defined();
    std::vector<float> bias;
    if (biased) {
      bias = row_values([this](const QTensor&, std::size_t part, std::int64_t row) { return source_.bias(part, row); });
      weight_.bias = copy(bias);
    }
    upload_plain_bias(bias);
  }

  void upload_tile_scales() {
    if (weight_.spec.element != Element::kE4M3 || weight_.spec.granularity != Granularity::kTile) return;
    const std::int64_t tiles = divide_up(weight_.cols, kTileSize), stride = round_up(tiles, 4);
    std::vector<float> scales;
    for (std::size_t i = 0; i < source_.weights.size(); ++i) {
      const QTensor& part = source_.weights[i];
      if (part.rows() % kTileSize != 0 && i + 1 < source_.weights.size()) return;
      for (std::int64_t row = 0; row < part.rows(); row += kTileSize) {
        for (std::int64_t k = 0; k < stride; ++k) {
          scales.push_back(k < tiles ? scale_at(part, row, k * kTileSize) : 0.0f);
        }
      }
    }
    weight_.tile_scales = copy(scales);
  }

  // bias: [N] or empty
  void upload_plain_bias(const std::vector<float>& bias) {
    weight_.bare = true;
    for (std::size_t i = 0; i < source_.weights.size(); ++i) weight_.bare &= source_.factor(i) == 1.0f;
    std::vector<std::uint16_t> codes;
    for (const float value : bias) {
      codes.push_back(bf16::encode(value));
      weight_.bare &= bf16::decode(codes.back()) == value;
    }
    if (weight_.bare && !codes.empty()) weight_.plain_bias = copy(codes);
    weight_.plain =
        weight_.bare && weight_.spec.element == Element::kBF16 && weight_.input.kind == InputQuant::Kind::kNone;
  }

  void upload_codes() {
    const bool packed = lies_in_tiles(weight_.code_type()) || byte_codes() != ByteCodes::kSame || weight_.halves();
    const std::int64_t bytes = code_bytes_of(weight_);
    char* target = nullptr;
    if (packed) {
      target = take_zeros(bytes);
    } else {
      target = arena_.allocate<char>(static_cast<std::size_t>(bytes));
      weight_.nbytes += bytes;
    }
    weight_.codes = target;
    std::int64_t first_row = 0;
    for (const QTensor& part : source_.weights) {
      char* rows = target + first_row * weight_.row_bytes;
      if (part.payload.numel() == 0) continue;
      if (lies_in_tiles(weight_.code_type())) {
        pack_tiles(part, first_row, target);
      } else if (packed) {
        pack_rows(part, rows);
      } else {
        uploader_.copy_rows(rows, static_cast<std::size_t>(weight_.row_bytes), part.payload.raw(),
                            static_cast<std::size_t>(part.payload.nbytes() / part.rows()), part.rows(),
                            number_check(weight_.spec.element, name_of(part)));
      }
      first_row += part.rows();
    }
  }

  ByteCodes byte_codes() const {
    switch (weight_.spec.element) {
      case Element::kE3M2:
        return ByteCodes::kE3M2;
      case Element::kE2M3:
        return ByteCodes::kE2M3;
      case Element::kE5M2:
        return ByteCodes::kE5M2;
      default:
        return ByteCodes::kSame;
    }
  }

  // Until the next one.
  const std::uint8_t* payload_on_device(const QTensor& part) {
    const auto bytes = static_cast<std::size_t>(part.payload.nbytes());
    void* payload = uploader_.scratch(bytes);
    uploader_.copy(payload, part.payload.raw(), bytes, number_check(weight_.spec.element, name_of(part)));
    return static_cast<const std::uint8_t*>(payload);
  }

  void pack_tiles(const QTensor& part, std::int64_t first_row, char* tiles) {
    const CodeType type = weight_.code_type();
    NibbleTileArguments arguments{};
    arguments.payload = payload_on_device(part);
    arguments.payload_stride = part.payload.dim(1);
    arguments.flips = type == CodeType::kInt4 ? 8 : 0;
    arguments.padding = type == CodeType::kInt4 ? 8 : type == CodeType::kNF4 ? nf4::kZero : 0;
    arguments.tiles = reinterpret_cast<std::uint32_t*>(tiles);
    arguments.rows = part.rows();
    arguments.cols = part.cols();
    arguments.first_row = first_row;
    arguments.row_blocks = divide_up(weight_.rows, kTileRows);
    arguments.col_blocks = divide_up(weight_.cols, kTileCols);
    start_pack_nibble_tiles(arguments, launch());
  }

  void pack_rows(const QTensor& part, char* rows) {
    start_pack_byte_rows(
        {payload_on_device(part), byte_codes(), rows, weight_.row_bytes, part.rows(), part.cols(), weight_.halves()},
        launch());
  }

  // What stands beside groups, to [tiles, group_stride, 8]; what only fills a tile or a chunk is 0.
  void upload_groups() {
    const DType stored = source_.weights[0].scales.dtype();
    for (const QTensor& part : source_.weights) {
      require(part.scales.dtype() == stored, kWhere, "fused weights need scales of one type");
    }
    const bool shifts = weight_.spec.asymmetric && (weight_.spec.element != Element::kInt4 || has_offsets());
    weight_.shifted = shifts;
    choose_scale_type(stored);
    const std::int64_t count = divide_up(weight_.rows, kTileRows) * weight_.group_stride() * kTileRows;
    auto* scales = take_zeros(count * static_cast<std::int64_t>(dtype_size(weight_.group_scale_type)));
    weight_.group_scales = scales;
    auto* zeros = weight_.spec.asymmetric && !shifts ? take_zeros<std::uint16_t>(count) : nullptr;
    weight_.group_zeros = zeros;
    auto* terms = shifts ? take_zeros<float>(2 * count) : nullptr;
    weight_.group_shifts = terms;
    std::int64_t first_row = 0;
    for (const QTensor& part : source_.weights) {
      pack_groups(part, first_row, values_of(stored, weight_.group_scale_type), part.scales, {}, scales);
      if (zeros) pack_groups(part, first_row, GroupValues::kInt4Zeros, part.zeros, {}, zeros);
      if (terms) pack_groups(part, first_row, GroupValues::kShifts, part.zeros, part.offsets, terms);
      first_row += part.rows();
    }
  }

  void pack_groups(const QTensor& part, std::int64_t first_row, GroupValues values, const Tensor& from,
                   const Tensor& offsets, void* to) {
    if (part.rows() == 0 || part.cols() == 0) return;
    const Granularity granularity = part.spec.granularity;
    GroupArguments arguments{};
    arguments.values = values;
    arguments.to = to;
    arguments.rows = part.rows();
    arguments.first_row = first_row;
    arguments.row_span = granularity == Granularity::kTile     ? kTileSize
                         : granularity == Granularity::kTensor ? part.rows()
                                                               : 1;
    arguments.groups = weight_.groups();
    arguments.stride = weight_.group_stride();
    arguments.one_value = granularity != Granularity::kGroup && granularity != Granularity::kTile;
    const auto size = [](const Tensor& tensor) {
      return tensor.defined() ? DeviceArena::padded(static_cast<std::size_t>(tensor.nbytes())) : 0;
    };
    auto* memory = static_cast<char*>(uploader_.scratch(size(from) + size(offsets)));
    const auto put = [&](const Tensor& tensor, char* target) -> char* {
      if (!tensor.defined()) return nullptr;
      uploader_.copy(target, tensor.raw(), static_cast<std::size_t>(tensor.nbytes()),
                     number_check(tensor.dtype(), name_of(part)));
      return target;
    };
    arguments.from = put(from, memory);
    arguments.offsets = reinterpret_cast<const float*>(put(offsets, memory + size(from)));
    start_pack_groups(arguments, launch());
  }

  bool has_offsets() const {
    bool any = false;
    for (const QTensor& part : source_.weights) any |= part.offsets.defined();
    return any;
  }

  // Scales of one byte become bf16, which holds them, where only scales of 16 bits fill the pieces that are copied.
  void choose_scale_type(DType stored) {
    // whatever it points to: only that there are scales matters until they are uploaded
    weight_.group_scales = source_.weights[0].scales.raw();
    weight_.group_scale_type = stored;
    if (dtype_size(stored) > 1 || weight_.scaling() != Scaling::kOther) return;
    weight_.group_scale_type = DType::kBF16;
    if (weight_.scaling() != Scaling::kChunk) weight_.group_scale_type = stored;
  }

  const LinearSource& source_;
  DeviceArena& arena_;
  DeviceUploader& uploader_;
  std::span<const std::string> names_;
  LinearWeight weight_;
};

}  // namespace

LinearWeight upload_linear(const LinearSource& source, DeviceArena& arena, DeviceUploader& uploader, const void* codes,
                           std::span<const std::string> names) {
  for (const QTensor& weight : source.weights) check_qtensor(weight, kWhere);
  require(!codes || (source.weights.size() == 1 && source.spec().element == Element::kBF16 && source.cols() % 8 == 0),
          kWhere, "expected one bf16 weight of whole pieces of 16 bytes");
  require(names.empty() || names.size() == source.weights.size(), kWhere, "expected {} names, got {}",
          source.weights.size(), names.size());
  return Upload(source, arena, uploader, codes, names).run();
}

}  // namespace halftone::cuda

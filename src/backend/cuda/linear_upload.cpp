// From a QTensor in host memory to a LinearWeight on the device.
#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cuda/device/linear.h"
#include "backend/cuda/linear_weight.h"
#include "backend/cuda/upload.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/e8m0.h"
#include "formats/nf4.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda linear";
constexpr std::int64_t kRowAlignment = 16;
constexpr int kNoZero = 136;  // the zero of codes in -8 .. 7, as Int4Words subtracts it

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// What stands beside groups, or beside a row that has a zero.
bool by_group(const QuantSpec& spec) {
  return spec.granularity == Granularity::kGroup || spec.granularity == Granularity::kTile || spec.asymmetric;
}

bool holds_nan(const Tensor& codes, std::uint8_t mask, std::uint8_t nan) {
  const auto* bytes = codes.bits<std::uint8_t>();
  bool found = false;
  for (std::int64_t i = 0; i < codes.numel(); ++i) found |= (bytes[i] & mask) == nan;
  return found;
}

// The kernels decode numbers alone.
void check_numbers(const LinearSource& source) {
  for (const QTensor& weight : source.weights) {
    require(source.spec().element != Element::kE4M3 || !holds_nan(weight.payload, 0x7f, e4m3::kNan), kWhere,
            "an e4m3 weight is not a number");
    if (!weight.scales.defined()) continue;
    const DType type = weight.scales.dtype();
    require((type != DType::kF8E4M3 || !holds_nan(weight.scales, 0x7f, e4m3::kNan)) &&
                (type != DType::kF8E8M0 || !holds_nan(weight.scales, 0xff, e8m0::kNan)),
            kWhere, "a scale of one byte is not a number");
  }
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
  return divide_up(weight.cols * element, unit) * unit;
}

std::int64_t code_bytes_of(const LinearWeight& weight) {
  return row_bytes_of(weight) * (lies_in_tiles(weight.code_type()) ? divide_up(weight.rows, kTileRows) : weight.rows);
}

// Device memory for the time of an upload.
class TemporaryMemory {
 public:
  explicit TemporaryMemory(std::size_t bytes) { check(cudaMalloc(&data_, bytes), kWhere); }
  ~TemporaryMemory() { cudaFree(data_); }
  TemporaryMemory(const TemporaryMemory&) = delete;
  TemporaryMemory& operator=(const TemporaryMemory&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

class Upload {
 public:
  Upload(const LinearSource& source, DeviceArena& arena, const DeviceStream& stream)
      : source_(source), arena_(arena), stream_(stream), weight_(describe(source)) {
    weight_.row_bytes = row_bytes_of(weight_);
  }

  // The scales first: they decide in what order codes lie.
  LinearWeight run() {
    if (by_group(weight_.spec)) {
      upload_groups();
    } else if (weight_.spec.granularity != Granularity::kNone) {
      weight_.row_scales =
          copy(row_values([](const QTensor& part, std::size_t, std::int64_t row) { return scale_at(part, row, 0); }));
    }
    upload_codes();
    upload_rows();
    return weight_;
  }

 private:
  template <typename T>
  const T* copy(const std::vector<T>& values) {
    T* target = arena_.allocate<T>(values.size());
    // values is pageable memory: the call returns when it was read
    check(cudaMemcpyAsync(target, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice,
                          stream_.launch().stream),
          kWhere);
    stream_.synchronize();
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

  void upload_rows() {
    weight_.row_factors =
        copy(row_values([this](const QTensor&, std::size_t part, std::int64_t) { return source_.factor(part); }));
    bool biased = false;
    for (const Tensor& bias : source_.biases) biased |= bias.defined();
    std::vector<float> bias;
    if (biased) {
      bias = row_values([this](const QTensor&, std::size_t part, std::int64_t row) { return source_.bias(part, row); });
      weight_.bias = copy(bias);
    }
    upload_plain_bias(bias);
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
    const std::int64_t bytes = code_bytes_of(weight_);
    auto* target = static_cast<char*>(arena_.allocate(static_cast<std::size_t>(bytes)));
    weight_.codes = target;
    weight_.nbytes += bytes;
    check(cudaMemsetAsync(target, 0, static_cast<std::size_t>(bytes), stream_.launch().stream), kWhere);
    std::int64_t first_row = 0;
    for (const QTensor& part : source_.weights) {
      char* rows = target + first_row * weight_.row_bytes;
      if (part.payload.numel() == 0) continue;
      if (lies_in_tiles(weight_.code_type())) {
        pack_tiles(part, first_row, target);
      } else if (byte_codes() != ByteCodes::kSame || weight_.halves()) {
        pack_rows(part, rows);
      } else {
        const auto width = static_cast<std::size_t>(part.payload.nbytes() / part.rows());
        const auto pitch = static_cast<std::size_t>(weight_.row_bytes);
        check(cudaMemcpy2DAsync(rows, pitch, part.payload.raw(), width, width, static_cast<std::size_t>(part.rows()),
                                cudaMemcpyHostToDevice, stream_.launch().stream),
              kWhere);
      }
      stream_.synchronize();
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

  // The payload on the device, for as long as it is packed by `pack`.
  template <typename Pack>
  void with_payload(const QTensor& part, Pack pack) {
    const auto bytes = static_cast<std::size_t>(part.payload.nbytes());
    const TemporaryMemory payload(bytes);
    copy_to_device(payload.data(), part.payload.raw(), bytes, stream_, kWhere);
    pack(static_cast<const std::uint8_t*>(payload.data()));
    stream_.synchronize();
  }

  void pack_tiles(const QTensor& part, std::int64_t first_row, char* tiles) {
    const CodeType type = weight_.code_type();
    NibbleTileArguments arguments{};
    arguments.payload_stride = part.payload.dim(1);
    arguments.flips = type == CodeType::kInt4 ? 8 : 0;
    arguments.padding = type == CodeType::kInt4 ? 8 : type == CodeType::kNF4 ? nf4::kZero : 0;
    arguments.tiles = reinterpret_cast<std::uint32_t*>(tiles);
    arguments.rows = part.rows();
    arguments.cols = part.cols();
    arguments.first_row = first_row;
    arguments.row_blocks = divide_up(weight_.rows, kTileRows);
    arguments.col_blocks = divide_up(weight_.cols, kTileCols);
    with_payload(part, [&](const std::uint8_t* payload) {
      arguments.payload = payload;
      start_pack_nibble_tiles(arguments, {stream_.launch().stream, false});
    });
  }

  void pack_rows(const QTensor& part, char* rows) {
    with_payload(part, [&](const std::uint8_t* payload) {
      start_pack_byte_rows({payload, byte_codes(), rows, weight_.row_bytes, part.rows(), part.cols(), weight_.halves()},
                           {stream_.launch().stream, false});
    });
  }

  // What stands beside groups, from [N, groups] to [tiles, group_stride, 8]; what only fills a tile or a chunk is 0.
  void upload_groups() {
    const DType stored = source_.weights[0].scales.dtype();
    for (const QTensor& part : source_.weights) {
      require(part.scales.dtype() == stored, kWhere, "fused weights need scales of one type");
    }
    const bool shifts = weight_.spec.asymmetric && (weight_.spec.element != Element::kInt4 || has_offsets());
    weight_.shifted = shifts;
    choose_scale_type(stored);
    const auto count =
        static_cast<std::size_t>(divide_up(weight_.rows, kTileRows) * weight_.group_stride() * kTileRows);
    const std::size_t size = dtype_size(weight_.group_scale_type);
    std::vector<std::uint8_t> scales(count * size);
    std::vector<std::uint16_t> zeros(weight_.spec.asymmetric && !shifts ? count : 0, bf16::encode(kNoZero));
    std::vector<float> terms(shifts ? 2 * count : 0);
    for_each_group([&](const QTensor& part, std::size_t from, std::size_t to, std::int64_t row, std::int64_t col) {
      if (weight_.group_scale_type == stored) {
        std::memcpy(scales.data() + to * size, static_cast<const std::uint8_t*>(part.scales.raw()) + from * size, size);
      } else {
        const std::uint16_t code = bf16::encode(scale_at(part, row, col));
        std::memcpy(scales.data() + to * size, &code, size);
      }
      if (!zeros.empty()) zeros[to] = bf16::encode(kNoZero + zero_at(part, row, col));
      if (!shifts) return;
      terms[2 * to] = zero_at(part, row, col);
      terms[2 * to + 1] = offset_at(part, row, col);
    });
    weight_.group_scales = copy(scales);
    if (!zeros.empty()) weight_.group_zeros = copy(zeros);
    if (shifts) weight_.group_shifts = copy(terms);
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

  // visit(part, where a group's scale lies in it, where it goes, its row, its first input)
  template <typename Visit>
  void for_each_group(Visit visit) const {
    const std::int64_t groups = weight_.groups(), stride = weight_.group_stride();
    std::int64_t n = 0;
    for (const QTensor& part : source_.weights) {
      for (std::int64_t row = 0; row < part.rows(); ++row, ++n) {
        const auto first = static_cast<std::size_t>(scale_index(part, row, 0));
        const bool several =
            part.spec.granularity == Granularity::kGroup || part.spec.granularity == Granularity::kTile;
        for (std::int64_t g = 0; g < groups; ++g) {
          const auto to = static_cast<std::size_t>((n / kTileRows * stride + g) * kTileRows + n % kTileRows);
          visit(part, several ? first + static_cast<std::size_t>(g) : first, to, row, g * weight_.group);
        }
      }
    }
  }

  const LinearSource& source_;
  DeviceArena& arena_;
  const DeviceStream& stream_;
  LinearWeight weight_;
};

}  // namespace

LinearWeight upload_linear(const LinearSource& source, DeviceArena& arena, const DeviceStream& stream) {
  for (const QTensor& weight : source.weights) check_qtensor(weight, kWhere);
  check_numbers(source);
  return Upload(source, arena, stream).run();
}

}  // namespace halftone::cuda

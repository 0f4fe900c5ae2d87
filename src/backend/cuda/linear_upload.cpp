// From a QTensor in host memory to a LinearWeight on the device.
#include <cstring>
#include <vector>

#include "backend/cuda/cuda_error.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/linear_weight.h"
#include "formats/bf16.h"
#include "formats/e4m3.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda linear";
constexpr std::int64_t kTileCols = 128, kTileBytes = 512, kRowAlignment = 16;
constexpr int kNoZero = 136;  // the zero of codes in -8 .. 7, as Int4Words subtracts it

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool by_group(const QuantSpec& spec) {
  return spec.granularity == Granularity::kGroup || spec.granularity == Granularity::kTile;
}

void check_supported(const LinearSource& source) {
  const QuantSpec& spec = source.spec();
  const bool known = spec.element == Element::kBF16 || spec.element == Element::kInt8 ||
                     spec.element == Element::kInt4 || spec.element == Element::kE4M3;
  require(known && !spec.mx, kWhere, "the device multiplies bf16, int8, int4 and e4m3 weights, got {}",
          to_string(spec));
  require(!spec.asymmetric || (spec.element == Element::kInt4 && !source.weights[0].offsets.defined()), kWhere,
          "zeros are supported for int4 alone, and offsets are not, got {}", to_string(spec));
  const InputQuant::Kind kind = source.input.kind;
  require(kind == InputQuant::Kind::kNone || kind == InputQuant::Kind::kStaticE4M3 ||
              kind == InputQuant::Kind::kDynamicE4M3 || is_int8(kind),
          kWhere, "inputs with scales by block are not supported");
  if (spec.element != Element::kE4M3) return;
  for (const QTensor& weight : source.weights) {
    const auto* codes = weight.payload.bits<std::uint8_t>();
    bool nan = false;
    for (std::int64_t i = 0; i < weight.payload.numel(); ++i) nan |= (codes[i] & 0x7f) == e4m3::kNan;
    require(!nan, kWhere, "an e4m3 weight is not a number");
  }
}

std::int64_t row_bytes_of(const LinearSource& source) {
  if (source.spec().element == Element::kInt4) return divide_up(source.cols(), kTileCols) * kTileBytes;
  const auto element = static_cast<std::int64_t>(dtype_size(payload_dtype(source.spec().element)));
  return divide_up(source.cols() * element, kRowAlignment) * kRowAlignment;
}

std::int64_t code_bytes_of(const LinearSource& source) {
  const bool tiles = source.spec().element == Element::kInt4;
  return row_bytes_of(source) * (tiles ? divide_up(source.rows(), kTileRows) : source.rows());
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
      : source_(source), arena_(arena), stream_(stream) {
    weight_.spec = source.spec();
    weight_.input = source.input;
    weight_.rows = source.rows();
    weight_.cols = source.cols();
    weight_.group = scale_group(source.spec(), source.cols());
    weight_.row_bytes = row_bytes_of(source);
  }

  LinearWeight run() {
    upload_codes();
    upload_rows();
    if (by_group(weight_.spec)) {
      upload_group_scales();
    } else if (weight_.spec.granularity != Granularity::kNone) {
      weight_.row_scales =
          copy(row_values([](const QTensor& part, std::size_t, std::int64_t row) { return scale_at(part, row, 0); }));
    }
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
    const std::int64_t bytes = code_bytes_of(source_);
    auto* target = static_cast<char*>(arena_.allocate(static_cast<std::size_t>(bytes)));
    weight_.codes = target;
    weight_.nbytes += bytes;
    check(cudaMemsetAsync(target, 0, static_cast<std::size_t>(bytes), stream_.launch().stream), kWhere);
    std::int64_t first_row = 0;
    for (const QTensor& part : source_.weights) {
      if (weight_.spec.element == Element::kInt4) {
        pack_tiles(part, first_row, target);
      } else if (part.payload.numel() > 0) {
        const auto width = static_cast<std::size_t>(part.payload.nbytes() / part.rows());
        const auto pitch = static_cast<std::size_t>(weight_.row_bytes);
        check(cudaMemcpy2DAsync(target + first_row * weight_.row_bytes, pitch, part.payload.raw(), width, width,
                                static_cast<std::size_t>(part.rows()), cudaMemcpyHostToDevice, stream_.launch().stream),
              kWhere);
      }
      stream_.synchronize();
      first_row += part.rows();
    }
  }

  void pack_tiles(const QTensor& part, std::int64_t first_row, char* tiles) {
    const auto bytes = static_cast<std::size_t>(part.payload.nbytes());
    const TemporaryMemory payload(bytes);
    check(cudaMemcpyAsync(payload.data(), part.payload.raw(), bytes, cudaMemcpyHostToDevice, stream_.launch().stream),
          kWhere);
    const std::int64_t row_blocks = divide_up(weight_.rows, kTileRows), col_blocks = divide_up(weight_.cols, kTileCols);
    const Int4TileArguments arguments{static_cast<const std::uint8_t*>(payload.data()),
                                      part.payload.dim(1),
                                      reinterpret_cast<std::uint32_t*>(tiles),
                                      part.rows(),
                                      part.cols(),
                                      first_row,
                                      row_blocks,
                                      col_blocks};
    start_pack_int4_tiles(arguments, {stream_.launch().stream, false});
    stream_.synchronize();
  }

  // Scales and zeros from [N, groups] to [tiles, groups, 8]; rows that only fill a tile have scale 0.
  void upload_group_scales() {
    const std::int64_t groups = weight_.groups(), tiles = divide_up(weight_.rows, kTileRows);
    weight_.group_scale_type = source_.weights[0].scales.dtype();
    const std::size_t size = dtype_size(weight_.group_scale_type);
    std::vector<std::uint8_t> scales(static_cast<std::size_t>(tiles * groups * kTileRows) * size);
    std::vector<std::uint16_t> zeros(static_cast<std::size_t>(tiles * groups * kTileRows), bf16::encode(kNoZero));
    std::int64_t n = 0;
    for (const QTensor& part : source_.weights) {
      require(part.scales.dtype() == weight_.group_scale_type, kWhere, "fused weights need scales of one type");
      for (std::int64_t row = 0; row < part.rows(); ++row, ++n) {
        for (std::int64_t g = 0; g < groups; ++g) {
          const auto to = static_cast<std::size_t>((n / kTileRows * groups + g) * kTileRows + n % kTileRows);
          const auto from = static_cast<std::size_t>(scale_index(part, row, g * weight_.group));
          std::memcpy(scales.data() + to * size, static_cast<const std::uint8_t*>(part.scales.raw()) + from * size,
                      size);
          zeros[to] = bf16::encode(kNoZero + zero_at(part, row, g * weight_.group));
        }
      }
    }
    weight_.group_scales = copy(scales);
    if (weight_.spec.asymmetric) weight_.group_zeros = copy(zeros);
  }

  const LinearSource& source_;
  DeviceArena& arena_;
  const DeviceStream& stream_;
  LinearWeight weight_;
};

}  // namespace

std::size_t linear_weight_bytes(const LinearSource& source) {
  const auto rows = static_cast<std::size_t>(source.rows());
  const std::size_t row_data = 4 * DeviceArena::padded(rows * sizeof(float));  // factors, scales, bias, plain bias
  std::size_t group_data = 0;
  if (by_group(source.spec())) {
    const std::int64_t groups = divide_up(source.cols(), scale_group(source.spec(), source.cols()));
    const auto count = static_cast<std::size_t>(divide_up(source.rows(), kTileRows) * groups * kTileRows);
    group_data = DeviceArena::padded(count * sizeof(float)) + DeviceArena::padded(count * sizeof(std::uint16_t));
  }
  return DeviceArena::padded(static_cast<std::size_t>(code_bytes_of(source))) + row_data + group_data;
}

LinearWeight upload_linear(const LinearSource& source, DeviceArena& arena, const DeviceStream& stream) {
  for (const QTensor& weight : source.weights) check_qtensor(weight, kWhere);
  check_supported(source);
  return Upload(source, arena, stream).run();
}

}  // namespace halftone::cuda

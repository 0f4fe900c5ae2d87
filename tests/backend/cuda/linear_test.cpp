// linear() on the device, every kernel: exact on integers, within the stated bound on random numbers, the same bits for
// every M; and what it refuses.
#include "backend/cuda/linear.h"

#include <limits>

#include "backend/cuda/decode_ops.h"
#include "backend/cuda/linear_prompt.h"
#include "backend/cuda/prepare_input.h"
#include "formats/e8m0.h"
#include "ops/cuda_devices.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone {
namespace {

using testing::DeviceRows;
using testing::LinearFormat;
using testing::LinearShape;

class CudaLinear : public testing::DeviceTest {};

std::vector<LinearFormat> device_formats() {
  using enum Granularity;
  const InputQuant none{}, int8{InputQuant::Kind::kStaticInt8, 0.021f}, int8_token{InputQuant::Kind::kDynamicInt8},
      e4m3{InputQuant::Kind::kStaticE4M3, 0.0061f}, e4m3_token{InputQuant::Kind::kDynamicE4M3};
  return {
      {"bf16", {Element::kBF16, kNone, 0}, DType::kF32, 1.0f, none},
      {"int8", {Element::kInt8, kChannel, 0}, DType::kBF16, 1.0f, none},
      {"int8_x_int8", {Element::kInt8, kChannel, 0}, DType::kF32, 1.0f, int8},
      {"int8_x_int8_token", {Element::kInt8, kChannel, 0}, DType::kF32, 1.0f, int8_token},
      {"int8_tensor", {Element::kInt8, kTensor, 0}, DType::kF32, 1.0f, none},
      {"int8_group32", {Element::kInt8, kGroup, 32}, DType::kF16, 1.0f, none},
      {"int4_group128", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, none},
      {"int4_group128_f16", {Element::kInt4, kGroup, 128}, DType::kF16, 1.0f, none},
      {"int4_group128_f32", {Element::kInt4, kGroup, 128}, DType::kF32, 1.0f, none},
      {"int4_group128_zeros", {Element::kInt4, kGroup, 128, false, true}, DType::kF16, 1.0f, none, true, false},
      {"int4_group128_x_int8_token", {Element::kInt4, kGroup, 128}, DType::kBF16, 1.0f, int8_token},
      {"int4_group32", {Element::kInt4, kGroup, 32}, DType::kF16, 1.0f, none},
      {"int4_channel", {Element::kInt4, kChannel, 0}, DType::kF32, 1.0f, none},
      {"e4m3_tensor", {Element::kE4M3, kTensor, 0}, DType::kF32, 1.0f, none},
      {"e4m3_tensor_x_e4m3", {Element::kE4M3, kTensor, 0}, DType::kF32, 1.0f, e4m3},
      {"e4m3_channel_x_e4m3_token", {Element::kE4M3, kChannel, 0}, DType::kF32, 1.0f, e4m3_token},
      {"e4m3_tiles", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, none},
  };
}

// Those with scales by small groups, of their inputs too, and those that have no kernel of their own.
std::vector<LinearFormat> other_formats() {
  using enum Granularity;
  using Kind = InputQuant::Kind;
  const InputQuant none{}, e4m3{Kind::kStaticE4M3, 0.0061f}, nvfp4{Kind::kDynamicNvfp4, 0.0011f},
      nvfp4_inverse{Kind::kDynamicNvfp4, 900.0f, true}, group{Kind::kDynamicE4M3Group}, mxfp8{Kind::kDynamicMxfp8},
      mxfp4{Kind::kDynamicMxfp4}, int8_token{Kind::kDynamicInt8}, e4m3_token{Kind::kDynamicE4M3};
  return {
      {"nvfp4", {Element::kE2M1, kGroup, 16}, DType::kF8E4M3, 0.0123f, none},
      {"nvfp4_x_nvfp4", {Element::kE2M1, kGroup, 16}, DType::kF8E4M3, 0.0123f, nvfp4},
      {"nvfp4_x_nvfp4_inverse", {Element::kE2M1, kGroup, 16}, DType::kF8E4M3, 0.0123f, nvfp4_inverse},
      {"nvfp4_wide_x_e4m3", {Element::kE2M1, kGroup, 32}, DType::kF8E4M3, 0.0345f, e4m3},
      {"e2m1_channel", {Element::kE2M1, kChannel, 0}, DType::kF32, 1.0f, none},
      {"mxfp4", {Element::kE2M1, kGroup, 32, true}, DType::kF8E8M0, 1.0f, none},
      {"mxfp4_x_mxfp4", {Element::kE2M1, kGroup, 32, true}, DType::kF8E8M0, 1.0f, mxfp4},
      {"mxfp6_e3m2", {Element::kE3M2, kGroup, 32, true}, DType::kF8E8M0, 1.0f, none},
      {"mxfp6_e2m3", {Element::kE2M3, kGroup, 32, true}, DType::kF8E8M0, 1.0f, none},
      {"mxfp8_x_mxfp8", {Element::kE4M3, kGroup, 32, true}, DType::kF8E8M0, 1.0f, mxfp8},
      {"e4m3_tiles_x_e4m3_group", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, group},
      {"e4m3_tiles_x_e4m3_token", {Element::kE4M3, kTile, 128}, DType::kF32, 1.0f, e4m3_token},
      {"e4m3_channel_x_e4m3_group", {Element::kE4M3, kChannel, 0}, DType::kF32, 1.0f, group},
      {"int4_group128_x_e4m3", {Element::kInt4, kGroup, 128}, DType::kF32, 1.0f, e4m3},
      {"int4_group128_x_e4m3_token", {Element::kInt4, kGroup, 128}, DType::kBF16, 0.75f, e4m3_token},
      {"int4_group128_x_e4m3_group", {Element::kInt4, kGroup, 128}, DType::kF16, 1.0f, group},
      {"int4_group64_zeros", {Element::kInt4, kGroup, 64, false, true}, DType::kF16, 1.0f, none, true, false},
      {"int4_group32_zeros", {Element::kInt4, kGroup, 32, false, true}, DType::kF32, 1.0f, none, true, false},
      {"int4_group256", {Element::kInt4, kGroup, 256}, DType::kBF16, 1.0f, none},
      {"int4_channel_zeros", {Element::kInt4, kChannel, 0, false, true}, DType::kF32, 1.0f, none, true, false},
      {"int4_group32_offsets", {Element::kInt4, kGroup, 32, false, true}, DType::kF32, 1.0f, none, true, true},
      {"int8_channel_zeros", {Element::kInt8, kChannel, 0, false, true}, DType::kBF16, 1.0f, none, true, false},
      {"int8_group32_offsets", {Element::kInt8, kGroup, 32, false, true}, DType::kF32, 1.0f, none, false, true},
      {"int8_group128", {Element::kInt8, kGroup, 128}, DType::kBF16, 1.0f, none},
      {"int8_group32_x_int8_token", {Element::kInt8, kGroup, 32}, DType::kF16, 1.0f, int8_token},
      {"int8_group20", {Element::kInt8, kGroup, 20}, DType::kF32, 1.0f, none},
      {"e5m2_channel", {Element::kE5M2, kChannel, 0}, DType::kF32, 1.0f, none},
      {"nf4_group64", {Element::kNF4, kGroup, 64}, DType::kF32, 1.0f, none},
      {"nf4_group32_x_int8_token", {Element::kNF4, kGroup, 32}, DType::kF16, 1.0f, int8_token},
      {"nf4_group128", {Element::kNF4, kGroup, 128}, DType::kF32, 1.0f, none},
      {"f16", {Element::kF16, kNone, 0}, DType::kF32, 1.0f, none},
      {"f32", {Element::kF32, kNone, 0}, DType::kF32, 1.0f, none},
  };
}

std::vector<LinearFormat> all_formats() {
  std::vector<LinearFormat> formats = device_formats();
  for (const LinearFormat& format : other_formats()) formats.push_back(format);
  return formats;
}

std::vector<LinearShape> device_shapes() {
  return {{1, 1, 1},    {1, 16, 8},    {2, 33, 31},   {3, 17, 136},  {4, 70, 64},  {5, 15, 257},  {8, 49, 515},
          {7, 9, 2064}, {11, 24, 640}, {20, 17, 320}, {64, 33, 200}, {9, 40, 264}, {65, 40, 264}, {65, 9, 31}};
}

// x' of ops/linear.h and s_in.
struct QuantizedInput {
  Tensor codes, scales;
  Tensor groups, group_codes;  // [M, ceil(K / 128)] and [M, K], whose products are codes, where groups have scales
};
QuantizedInput quantized(const Tensor& x, const InputQuant& input) {
  QuantizedInput out{Tensor(DType::kF32, x.shape()), Tensor(DType::kF32, {x.dim(0)}), {}, {}};
  quantize_input_reference(x, input, out.codes, out.scales);
  if (!cuda::scales_groups(input.kind)) return out;
  const std::int64_t k = x.dim(1), groups = cuda::input_scale_count(input.kind, k);
  out.groups = Tensor(DType::kF32, {x.dim(0), groups});
  out.group_codes = Tensor(DType::kF32, x.shape());
  for (std::int64_t m = 0; m < x.dim(0); ++m) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t begin = m * k + g * 128, end = std::min(begin + 128, (m + 1) * k);
      float amax = 0;
      for (std::int64_t i = begin; i < end; ++i) amax = std::max(amax, std::fabs(x.data<float>()[i]));
      const float scale = out.groups.data<float>()[m * groups + g] = amax / e4m3::kMax;
      for (std::int64_t i = begin; i < end; ++i) {
        const float code = scale > 0 ? e4m3::decode(e4m3::encode_saturated(x.data<float>()[i] / scale)) : 0.0f;
        out.group_codes.data<float>()[i] = code;
        EXPECT_EQ(out.codes.data<float>()[i], code * scale);
      }
    }
  }
  return out;
}

// Those of the first tokens.
QuantizedInput first_rows(const QuantizedInput& x, std::int64_t rows) {
  const auto first = [&](const Tensor& all) { return all.defined() ? all.rows(0, rows) : Tensor(); };
  QuantizedInput out{first(x.codes), {}, first(x.groups), first(x.group_codes)};
  out.scales = Tensor(DType::kF32, {rows});
  std::copy_n(x.scales.data<float>(), rows, out.scales.data<float>());
  return out;
}

// A weight on the device and one call of it, everything around the operands NaN.
class DeviceProduct {
 public:
  explicit DeviceProduct(const LinearSource& source)
      : arena_(cuda::DeviceArena::growing("test", cuda::DeviceArena::kAlignment)), source_(source) {
    weight_ = cuda::upload_linear(source, arena_, uploader_);
  }

  // [M, N] as the device gives it.  x: codes already.
  Tensor run(const QuantizedInput& x, std::string_view kernel, DType y_type = DType::kF32,
             const Tensor* residual = nullptr, bool silu_mul = false) {
    const std::int64_t m = x.codes.dim(0), n = source_.rows() / (silu_mul ? 2 : 1);
    const DType x_type = input_type(kernel);
    const bool native = x_type == DType::kF8E4M3, groups = x.groups.defined() && (kernel != "cublas" || native);
    const Tensor& codes = groups ? x.group_codes : x.codes;
    const DeviceRows input(x_type, native ? whole_fours(codes) : codes,
                           padding(codes.dim(1), x_type == DType::kBF16 ? 8 : 16));
    const DeviceRows scales(DType::kF32, groups ? x.groups : x.scales.reshape({x.scales.dim(0), 1}));
    const bool spare_rows = native && y_type == DType::kBF16;
    DeviceRows y(y_type, spare_rows ? (m + 3) / 4 * 4 : m, n, kernel == "cublas" ? padding(n, 8) : 3);
    const std::size_t bytes = cuda::linear_prompt_workspace(weight_, m);
    cuda::DeviceArena workspace("test", bytes);
    cuda::LinearCall call;
    call.x = input.matrix();
    call.y = y.matrix();
    call.x.rows = call.y.rows = m;
    call.spare_rows = spare_rows;
    call.silu_mul = silu_mul;
    call.workspace = workspace.allocate(bytes);
    call.workspace_bytes = bytes;
    call.prompt = true;
    if (groups || scales_tokens(source_.input.kind)) call.x_scales = static_cast<const float*>(scales.matrix().data);
    std::unique_ptr<DeviceRows> added;
    if (residual) {
      added = std::make_unique<DeviceRows>(DType::kBF16, *residual, kernel == "cublas" ? padding(n, 8) : 5);
      call.residual = added->matrix();
    }
    cuda::linear(weight_, call, stream_.launch(), kernel);
    stream_.synchronize();
    EXPECT_TRUE(y.padding_intact()) << kernel;
    return y.values().rows(0, m);
  }

  // [M, N] of an x that is normalized and quantized first, by the product itself or before it.  norm: [K] or null.
  Tensor run_preparing(const Tensor& x, const float* norm, bool on_the_way) {
    const std::int64_t m = x.dim(0), k = x.dim(1);
    const DeviceRows input(DType::kBF16, x, padding(k, 8));
    DeviceRows y(DType::kF32, m, source_.rows(), 3), codes(input_type("decode"), m, k, padding(k, 16)),
        scales(DType::kF32, m, 1);
    const bool by_token = scales_tokens(source_.input.kind);
    cuda::LinearCall call;
    call.y = y.matrix();
    if (on_the_way) {
      call.x = input.matrix();
      call.prepares = true;
      call.norm = norm;
      call.eps = 1e-6f;
    } else {
      auto* token_scales = by_token ? static_cast<float*>(scales.matrix().data) : nullptr;
      cuda::prepare_input({input.matrix(), norm, 1e-6f, source_.input, codes.matrix(), token_scales}, stream_.launch());
      call.x = codes.matrix();
      call.x_scales = token_scales;
    }
    cuda::linear(weight_, call, stream_.launch(), "decode");
    stream_.synchronize();
    EXPECT_TRUE(y.padding_intact());
    return y.values();
  }

  std::vector<std::string> kernels(std::int64_t m) const {
    std::vector<std::string> names;
    for (const cuda::LinearRow& row : cuda::linear_rows()) {
      cuda::LinearCall call;
      const std::int64_t n = source_.rows();
      call.x = {nullptr, input_type(row.name), m, source_.cols(), (source_.cols() + 15) / 16 * 16};
      call.y = {nullptr, DType::kF32, m, n, n + padding(n, 8)};
      call.workspace_bytes = cuda::linear_prompt_workspace(weight_, m);
      call.prompt = true;
      const float some = 0;
      if (cuda::scales_groups(source_.input.kind) && call.x.dtype == DType::kF8E4M3) call.x_scales = &some;
      if (row.supports(weight_, call)) names.emplace_back(row.name);
    }
    return names;
  }
  const cuda::LinearWeight& weight() const { return weight_; }

 private:
  // Rows of NaN behind those of x, up to a multiple of four.
  static Tensor whole_fours(const Tensor& x) {
    Tensor whole(DType::kF32, {(x.dim(0) + 3) / 4 * 4, x.dim(1)});
    std::fill_n(whole.data<float>(), whole.numel(), std::numeric_limits<float>::quiet_NaN());
    std::copy_n(x.data<float>(), x.numel(), whole.data<float>());
    return whole;
  }
  DType input_type(std::string_view kernel) const {
    if (kernel == "cublas") return cuda::linear_prompt_input(weight_);
    if (kernel == "decode") return cuda::linear_decode_input(weight_);
    return weight_.multiplies_integers() ? DType::kI8 : DType::kBF16;
  }
  // Elements after a row, so that the next one begins at a multiple of `unit`; and then some.
  static std::int64_t padding(std::int64_t cols, std::int64_t unit) { return unit - cols % unit + unit; }

  cuda::DeviceStream stream_;
  cuda::DeviceUploader uploader_{stream_, 1};
  cuda::DeviceArena arena_;
  LinearSource source_;
  cuda::LinearWeight weight_;
};

// y in f64 from the decoded weight, and what the error bound is counted in: sum |x' w| |factor| + |bias|.
struct Exact {
  std::vector<double> y, magnitude;
};
Exact exact_product(const QuantizedInput& x, const QTensor& weight, const Tensor& bias, const LinearSource& source) {
  Exact exact;
  const std::int64_t k = weight.cols(), n = weight.rows();
  std::vector<double> w;
  for (std::int64_t i = 0; i < n * k; ++i) {
    const std::int64_t row = i / k, col = i % k;
    const double code = decode_code(weight, row, col) - static_cast<double>(zero_at(weight, row, col));
    w.push_back(code * scale_at(weight, row, col) + offset_at(weight, row, col));
  }
  for (std::int64_t m = 0; m < x.codes.dim(0); ++m) {
    const double factor =
        static_cast<double>(source.factor(0)) * (scales_tokens(source.input.kind) ? x.scales.data<float>()[m] : 1.0f);
    for (std::int64_t row = 0; row < n; ++row) {
      double sum = 0, magnitude = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const double product = x.codes.data<float>()[m * k + i] * w[static_cast<std::size_t>(row * k + i)];
        sum += product;
        magnitude += std::fabs(product);
      }
      const double b = bias.defined() ? bias.data<float>()[row] : 0.0;
      exact.y.push_back(sum * factor + b);
      exact.magnitude.push_back(magnitude * std::fabs(factor) + std::fabs(b));
    }
  }
  return exact;
}

Tensor bf16_values(Tensor x) { return to_f32(from_f32(x, DType::kBF16)); }

// linear.h: (K + 16) 2^-22 of the magnitude; linear_prompt.h: weights of groups, and of formats that bf16 does not hold,
// rounded to bf16, groups of inputs, too; E4M3 products.
double bound(std::int64_t k, double magnitude, const cuda::LinearWeight& weight, std::string_view kernel) {
  const double sums = static_cast<double>(k + 16) * 0x1p-22 * magnitude;
  if (kernel != "cublas") return sums;
  if (cuda::linear_prompt_input(weight) == DType::kF8E4M3) return sums + 0x1p-12 * magnitude;
  const bool rounded =
      weight.group_scales || weight.code_type() == cuda::CodeType::kF16 || weight.code_type() == cuda::CodeType::kF32;
  return sums + (rounded ? 0x1p-8 * magnitude : 0) + (cuda::scales_groups(weight.input.kind) ? 0x1p-8 * magnitude : 0);
}

TEST_F(CudaLinear, IsWithinItsBoundOfTheExactProduct) {
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : device_shapes()) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 1 + shape.k);
      const Tensor bias = shape.n % 2 ? testing::random_input(1, shape.n, 3).reshape({shape.n}) : Tensor();
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 2)), format.input);
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const std::string& kernel : product.kernels(shape.m)) {
        const Tensor y = product.run(x, kernel);
        for (std::int64_t i = 0; i < y.numel(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_NEAR(y.data<float>()[i], exact.y[at], bound(shape.k, exact.magnitude[at], product.weight(), kernel))
              << format.name << " " << kernel << " [" << shape.m << " x " << shape.n << " x " << shape.k << "] element "
              << i;
        }
      }
    }
  }
}

// Integers and powers of two whose sums f32 holds exactly: no order of summation may show, no element may be missing.
TEST_F(CudaLinear, IsExactOnIntegers) {
  for (LinearFormat format : all_formats()) {
    if (format.spec.element == Element::kNF4) continue;  // its levels are no such numbers
    format.input.scale = format.input.kind == InputQuant::Kind::kNone ? 1.0f : 0.25f;
    if (format.global_scale != 1) format.global_scale = 0.5f;
    for (const LinearShape& shape : device_shapes()) {
      QTensor weight = testing::random_weight(format, shape.n, shape.k, 7);
      Random random(11);
      for (std::int64_t i = 0; weight.scales.defined() && i < weight.scales.numel(); ++i) {
        const float scale = random.below(2) || format.offsets ? 1.0f : 0.5f;
        if (weight.scales.dtype() == DType::kF32) weight.scales.data<float>()[i] = scale;
        if (weight.scales.dtype() == DType::kBF16) weight.scales.bits<std::uint16_t>()[i] = bf16::encode(scale);
        if (weight.scales.dtype() == DType::kF16) weight.scales.bits<std::uint16_t>()[i] = f16::encode(scale);
        if (weight.scales.dtype() == DType::kF8E4M3) weight.scales.bits<std::uint8_t>()[i] = e4m3::encode(scale);
        if (weight.scales.dtype() == DType::kF8E8M0) weight.scales.bits<std::uint8_t>()[i] = e8m0::encode(scale);
        if (weight.offsets.defined()) weight.offsets.data<float>()[i] = static_cast<float>(random.below(9)) - 4;
      }
      for (std::int64_t i = 0; i < weight.payload.numel(); ++i) {
        const float value = static_cast<float>(random.below(17)) - 8;
        if (weight.payload.dtype() == DType::kBF16) weight.payload.bits<std::uint16_t>()[i] = bf16::encode(value);
        if (weight.payload.dtype() == DType::kF8E4M3) weight.payload.bits<std::uint8_t>()[i] = e4m3::encode(value);
        if (weight.payload.dtype() == DType::kF8E5M2) weight.payload.bits<std::uint8_t>()[i] = e5m2::encode(value);
        if (weight.payload.dtype() == DType::kF16) weight.payload.bits<std::uint16_t>()[i] = f16::encode(value);
        if (weight.payload.dtype() == DType::kF32) weight.payload.data<float>()[i] = value;
      }
      QuantizedInput x{Tensor(DType::kF32, {shape.m, shape.k}), Tensor(DType::kF32, {shape.m}), {}, {}};
      for (std::int64_t i = 0; i < x.codes.numel(); ++i)
        x.codes.data<float>()[i] = static_cast<float>(random.below(9)) - 4;
      for (std::int64_t m = 0; m < shape.m; ++m) x.scales.data<float>()[m] = 0.5f;
      if (cuda::scales_groups(format.input.kind)) {
        x.groups = Tensor(DType::kF32, {shape.m, cuda::input_scale_count(format.input.kind, shape.k)});
        std::fill_n(x.groups.data<float>(), x.groups.numel(), 1.0f);
        x.group_codes = x.codes;
      }
      const Tensor bias;
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const std::string& kernel : product.kernels(shape.m)) {
        const Tensor y = product.run(x, kernel);
        for (std::int64_t i = 0; i < y.numel(); ++i) {
          ASSERT_EQ(y.data<float>()[i], exact.y[static_cast<std::size_t>(i)])
              << format.name << " " << kernel << " [" << shape.m << " x " << shape.n << " x " << shape.k << "] element "
              << i;
        }
      }
    }
  }
}

void expect_same_bits(const LinearFormat& format, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t kTokens = 40;
  const QTensor weight = testing::random_weight(format, n, k, 5);
  const Tensor bias;
  const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
  const Tensor x = bf16_values(testing::random_input(kTokens, k, 6));
  DeviceProduct product(source);
  for (const std::string& kernel : product.kernels(kTokens)) {
    const Tensor all = product.run(quantized(x, format.input), kernel);
    for (const std::int64_t row : {std::int64_t{0}, std::int64_t{5}, kTokens - 1}) {
      const Tensor one = product.run(quantized(x.rows(row, row + 1), format.input), kernel);
      EXPECT_EQ(std::memcmp(one.raw(), all.data<float>() + row * n, static_cast<std::size_t>(one.nbytes())), 0)
          << format.name << " " << kernel << " [" << n << " x " << k << "], token " << row;
    }
  }
}

// Of the first weight K is split over four to sixteen warps, by the format; of the second over four.
TEST_F(CudaLinear, GivesATokenTheSameBitsWhateverElseThereIs) {
  for (const LinearFormat& format : all_formats()) {
    expect_same_bits(format, 40, 1536);
    expect_same_bits(format, 4260, 264);
  }
}

// Where K is split over sixteen warps, so over the blocks of a cluster, and a block takes four pairs of tiles.
TEST_F(CudaLinear, GivesATokenTheSameBitsWhereClustersShareK) {
  const std::vector<LinearFormat> formats = all_formats();
  for (const std::string_view name : {"bf16", "int8", "int8_x_int8_token", "e4m3_channel_x_e4m3_token", "int4_group128",
                                      "int4_group32", "nf4_group64"}) {
    const auto format = std::find_if(formats.begin(), formats.end(), [&](const auto& f) { return f.name == name; });
    ASSERT_NE(format, formats.end()) << name;
    expect_same_bits(*format, 1600, 6144);
  }
}

// Those whose products on Hopper have scales of 128 inputs.
std::vector<LinearFormat> block_formats() {
  std::vector<LinearFormat> formats;
  for (const LinearFormat& format : other_formats()) {
    const bool tiles = format.name == "e4m3_tiles_x_e4m3_group" || format.name == "e4m3_tiles_x_e4m3_token";
    if (tiles || format.name.starts_with("int4_group128_x_e4m3")) formats.push_back(format);
  }
  return formats;
}

TEST_F(CudaLinear, MultipliesBlocksNativelyOnHopper) {
  if (list_cuda_devices().at(0).compute_capability != 90) GTEST_SKIP() << "not a Hopper";
  ASSERT_EQ(block_formats().size(), 5u);
  for (const LinearFormat& format : block_formats()) {
    for (const LinearShape& shape : {LinearShape{0, 1536, 8960}, LinearShape{0, 144, 400}, LinearShape{0, 16, 1536}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      const Tensor bias;
      const DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
      EXPECT_EQ(cuda::linear_prompt_input(product.weight()), DType::kF8E4M3)
          << format.name << " " << shape.n << " x " << shape.k;
    }
  }
}

// The same of the library's kernels, which are chosen by the number of tokens.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsWhateverTheLength) {
  std::vector<LinearFormat> formats = device_formats();
  for (const LinearFormat& format : block_formats()) {  // one of tiles and one of groups, for the time that it takes
    if (format.name == "e4m3_tiles_x_e4m3_group" || format.name == "int4_group128_x_e4m3") formats.push_back(format);
  }
  for (const LinearFormat& format : formats) {
    for (const LinearShape& shape : {LinearShape{2048, 1536, 4480}, LinearShape{2048, 2048, 1536}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      Tensor bias;
      const bool blocks = format.spec.group == 128 && format.input.kind != InputQuant::Kind::kNone;
      if (blocks && shape.k == 1536) bias = bf16_values(testing::random_input(1, shape.n, 3)).reshape({shape.n});
      DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 6)), format.input);
      // E4M3 is rounded to bf16 by another kernel than to f32
      for (const DType type : {DType::kF32, DType::kBF16}) {
        const Tensor all = product.run(x, "cublas", type);
        for (const std::int64_t rows : {1, 65, 129, 300, 640, 1089, 1536}) {
          const Tensor some = product.run(first_rows(x, rows), "cublas", type);
          EXPECT_EQ(std::memcmp(some.raw(), all.raw(), static_cast<std::size_t>(some.nbytes())), 0)
              << format.name << " " << rows;
        }
      }
    }
  }
}

// As many tokens as several prompts together have, bf16.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsWhateverIsReadWithIt) {
  const QTensor weight = testing::random_weight(device_formats()[0], 1536, 1536, 5);
  const Tensor bias;
  DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, {}});
  const Tensor x = bf16_values(testing::random_input(8192, 1536, 6));
  const Tensor all = product.run(quantized(x, {}), "cublas");
  for (const std::int64_t rows : {1, 1089, 4356, 6534}) {
    const Tensor some = product.run(quantized(x.rows(0, rows), {}), "cublas");
    EXPECT_EQ(std::memcmp(some.raw(), all.raw(), static_cast<std::size_t>(some.nbytes())), 0) << rows;
  }
}

// Sums of many tokens are written piece by piece.
TEST_F(CudaLinear, GivesAPromptsTokenTheSameBitsInEveryPiece) {
  for (const LinearFormat& format : device_formats()) {
    if (format.input.kind == InputQuant::Kind::kNone) continue;
    const QTensor weight = testing::random_weight(format, 64, 256, 5);
    const Tensor bias = testing::random_input(1, 64, 3).reshape({64});
    DeviceProduct product(LinearSource{{&weight, 1}, {&bias, 1}, format.input});
    const Tensor x = bf16_values(testing::random_input(4500, 256, 6)),
                 residual = bf16_values(testing::random_input(4500, 64, 9));
    const Tensor all = product.run(quantized(x, format.input), "cublas", DType::kBF16, &residual);
    for (const std::int64_t begin : {0, 1900, 4096, 4200}) {
      const std::int64_t end = begin + 300;
      const Tensor added = residual.rows(begin, end);
      const Tensor some = product.run(quantized(x.rows(begin, end), format.input), "cublas", DType::kBF16, &added);
      EXPECT_EQ(std::memcmp(some.raw(), all.rows(begin, end).raw(), static_cast<std::size_t>(some.nbytes())), 0)
          << format.name << " " << begin;
    }
  }
}

TEST_F(CudaLinear, MultipliesInt8ByInt8WithTheBitsOfTheCpu) {
  for (const LinearFormat& format : all_formats()) {
    const QTensor weight = testing::random_weight(format, 33, 1024, 5);
    if (!sums_integers(format.spec, format.input) || weight.spec.granularity == Granularity::kGroup) continue;
    const Tensor bias = testing::random_input(1, 33, 3).reshape({33});
    const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
    const Tensor x = bf16_values(testing::random_input(4, 1024, 6));
    Tensor wanted(DType::kF32, {4, 33});
    linear_reference(x, weight, bias, format.input, wanted);
    DeviceProduct product(source);
    for (const std::string& kernel : product.kernels(4)) {
      const Tensor y = product.run(quantized(x, format.input), kernel);
      EXPECT_EQ(std::memcmp(y.raw(), wanted.raw(), static_cast<std::size_t>(y.nbytes())), 0)
          << format.name << " " << kernel;
    }
  }
}

TEST_F(CudaLinear, RoundsThenAddsTheResidual) {
  const LinearFormat format = device_formats()[0];
  const QTensor weight = testing::random_weight(format, 24, 96, 5);
  const Tensor bias;
  const LinearSource source{{&weight, 1}, {&bias, 1}, {}};
  DeviceProduct product(source);
  for (const std::int64_t m : {3, 40}) {
    const QuantizedInput x = quantized(bf16_values(testing::random_input(m, 96, 6)), {});
    const Tensor residual = bf16_values(testing::random_input(m, 24, 9));
    for (const std::string& kernel : product.kernels(m)) {
      const Tensor plain = product.run(x, kernel), sum = product.run(x, kernel, DType::kBF16, &residual);
      for (std::int64_t i = 0; i < sum.numel(); ++i) {
        const float rounded = bf16::round(plain.data<float>()[i]);
        EXPECT_EQ(sum.data<float>()[i], bf16::round(rounded + residual.data<float>()[i])) << kernel;
      }
    }
  }
}

TEST_F(CudaLinear, MultipliesGatesWithValuesAsTheOpDoes) {
  for (const LinearFormat& format : all_formats()) {
    for (const std::int64_t m : {5, 40}) {
      const std::int64_t n = 48, k = 640;
      const QTensor weight = testing::random_weight(format, n, k, 5);
      const Tensor bias = testing::random_input(1, n, 3).reshape({n});
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const QuantizedInput x = quantized(bf16_values(testing::random_input(m, k, 6)), format.input);
      DeviceProduct product(source);
      cuda::DeviceStream stream;
      const DeviceRows decoded(DType::kBF16, product.run(x, product.kernels(m)[0], DType::kBF16));
      DeviceRows wanted(DType::kBF16, m, n / 2);
      cuda::silu_mul(decoded.matrix(), wanted.matrix(), stream.launch());
      stream.synchronize();
      if (product.kernels(m)[0] != "decode") continue;
      const Tensor got = product.run(x, "decode", DType::kBF16, nullptr, true);
      const Tensor expected = wanted.values();
      for (std::int64_t i = 0; i < got.numel(); ++i) {
        const float a = got.data<float>()[i], b = expected.data<float>()[i];
        ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
            << format.name << ", " << m << " tokens, element " << i << ": " << a << ", not " << b;
      }
    }
  }
}

TEST_F(CudaLinear, PreparesItsInputWithTheBitsOfTheOp) {
  const LinearShape shapes[] = {{1, 17, 1536}, {2, 24, 515}, {2, 16, 3584}, {2, 9, 8}, {1, 40, 8960}};
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : shapes) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      const Tensor none;
      DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, format.input});
      if (product.kernels(shape.m)[0] != "decode" || cuda::scales_groups(format.input.kind)) continue;
      const Tensor x = bf16_values(testing::random_input(shape.m, shape.k, 6));
      const DeviceRows norm(DType::kF32, testing::random_input(1, shape.k, 7));
      for (const float* w : {static_cast<const float*>(norm.matrix().data), static_cast<const float*>(nullptr)}) {
        const Tensor got = product.run_preparing(x, w, true), wanted = product.run_preparing(x, w, false);
        ASSERT_EQ(std::memcmp(got.raw(), wanted.raw(), static_cast<std::size_t>(got.nbytes())), 0)
            << format.name << " " << shape.m << " x " << shape.k << (w ? " with a norm" : "");
      }
    }
  }
}

// Prompts' shapes: more tokens than "decode" takes, by the library's kernels, with and without residual and bias.
TEST_F(CudaLinear, MultipliesPromptsWithinTheBound) {
  for (const LinearFormat& format : all_formats()) {
    for (const LinearShape& shape : {LinearShape{9, 24, 48}, LinearShape{130, 256, 384}, LinearShape{70, 16, 1536},
                                     LinearShape{131, 256, 384}, LinearShape{133, 144, 400}}) {
      const QTensor weight = testing::random_weight(format, shape.n, shape.k, 5);
      Tensor bias = bf16_values(testing::random_input(1, shape.n, 3)).reshape({shape.n});
      if (shape.m % 2 != 0) bias = Tensor();
      const LinearSource source{{&weight, 1}, {&bias, 1}, format.input};
      const QuantizedInput x = quantized(bf16_values(testing::random_input(shape.m, shape.k, 6)), format.input);
      const Tensor residual = bf16_values(testing::random_input(shape.m, shape.n, 9));
      const Exact exact = exact_product(x, weight, bias, source);
      DeviceProduct product(source);
      for (const bool adds : {false, true}) {
        const Tensor got = product.run(x, "cublas", DType::kBF16, adds ? &residual : nullptr);
        for (std::int64_t i = 0; i < got.numel(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          const double wanted = exact.y[at] + (adds ? residual.data<float>()[i] : 0.0f);
          // one or two roundings to bf16
          const double roundings = (std::fabs(wanted) + std::fabs(exact.y[at])) * 0x1p-8;
          ASSERT_NEAR(got.data<float>()[i], wanted,
                      bound(shape.k, exact.magnitude[at], product.weight(), "cublas") + roundings)
              << format.name << " element " << i;
        }
      }
    }
  }
}

// q, k and v as one product: parts that end within a tile, with scales and factors of their own.
TEST_F(CudaLinear, FusesWeightsThatShareTheirInput) {
  for (const LinearFormat& format : all_formats()) {
    const std::vector<QTensor> parts = {testing::random_weight(format, 13, 384, 1),
                                        testing::random_weight(format, 3, 384, 2),
                                        testing::random_weight(format, 20, 384, 3)};
    const std::vector<Tensor> biases(3);
    const QuantizedInput x = quantized(bf16_values(testing::random_input(2, 384, 6)), format.input);
    DeviceProduct fused(LinearSource{parts, biases, format.input});
    for (const std::string& kernel : fused.kernels(2)) {
      if (kernel == "cublas") continue;  // its algorithm, and so its order of summation, hangs on the number of rows
      const Tensor y = fused.run(x, kernel);
      std::int64_t first = 0;
      for (const QTensor& part : parts) {
        const Tensor none;
        DeviceProduct alone(LinearSource{{&part, 1}, {&none, 1}, format.input});
        const Tensor wanted = alone.run(x, kernel);
        for (std::int64_t m = 0; m < 2; ++m) {
          for (std::int64_t n = 0; n < part.rows(); ++n) {
            ASSERT_EQ(y.data<float>()[m * 36 + first + n], wanted.data<float>()[m * part.rows() + n])
                << format.name << " " << kernel;
          }
        }
        first += part.rows();
      }
    }
  }
}

// Tiles that belong to one part each are multiplied as they are on Hopper, others decoded; and groups of several parts.
TEST_F(CudaLinear, FusesBlocksOfParts) {
  const std::int64_t k = 400;
  for (const LinearFormat& format : block_formats()) {
    for (const Shape& rows : {Shape{256, 128, 48}, Shape{130, 126, 16}}) {
      std::vector<QTensor> parts;
      for (const std::int64_t n : rows) {
        parts.push_back(testing::random_weight(format, n, k, static_cast<std::uint64_t>(n)));
        parts.back().global_scale = static_cast<float>(n);
      }
      const std::vector<Tensor> biases(parts.size());
      const QuantizedInput x = quantized(bf16_values(testing::random_input(70, k, 6)), format.input);
      DeviceProduct product(LinearSource{parts, biases, format.input});
      const Tensor y = product.run(x, "cublas");
      std::int64_t first = 0;
      for (const QTensor& part : parts) {
        const Tensor none;
        const Exact exact = exact_product(x, part, none, LinearSource{{&part, 1}, {&none, 1}, format.input});
        for (std::int64_t i = 0; i < 70 * part.rows(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_NEAR(y.data<float>()[i / part.rows() * y.dim(1) + first + i % part.rows()], exact.y[at],
                      bound(k, exact.magnitude[at], product.weight(), "cublas"))
              << format.name << " part of " << part.rows() << ", element " << i;
        }
        first += part.rows();
      }
    }
  }
}

// Which formats have a kernel for decoding: that none falls back to the general one by mistake.
TEST_F(CudaLinear, DecodesByKernelsOfTheirOwn) {
  for (const LinearFormat& format : all_formats()) {
    const QTensor weight = testing::random_weight(format, 24, 640, 1);
    const Tensor none;
    const DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, format.input});
    const bool shifted = format.offsets || (format.zeros && format.spec.element != Element::kInt4);
    const bool general = shifted || format.name == "int4_channel_zeros" || format.name == "int8_group20" ||
                         format.name == "e2m1_channel" || format.name == "e4m3_channel_x_e4m3_group" ||
                          format.name == "int4_group128_x_e4m3_group" || format.name == "nf4_group128" ||
                          format.name == "f16" || format.name == "f32";
    EXPECT_EQ(product.kernels(2)[0] == "decode", !general) << format.name;
    EXPECT_EQ(cuda::linear_decodes(product.weight()), !general) << format.name;
  }
}

TEST_F(CudaLinear, RefusesWhatDoesNotFit) {
  const Tensor none;
  QTensor nan_scale = testing::random_weight(other_formats()[0], 8, 16, 1);
  nan_scale.scales.bits<std::uint8_t>()[3] = 0x7f;
  EXPECT_THROW(DeviceProduct(LinearSource{{&nan_scale, 1}, {&none, 1}, {}}), Error);
  QTensor nan = testing::random_weight(device_formats()[13], 8, 16, 1);
  nan.payload.bits<std::uint8_t>()[17] = 0xff;
  EXPECT_THROW(DeviceProduct(LinearSource{{&nan, 1}, {&none, 1}, {}}), Error);
  const QTensor weight = testing::random_weight(device_formats()[0], 8, 16, 1);
  DeviceProduct product(LinearSource{{&weight, 1}, {&none, 1}, {}});
  EXPECT_THROW(product.run(quantized(testing::random_input(1, 17, 1), {}), "any"), Error);
  EXPECT_THROW(product.run(quantized(testing::random_input(1, 16, 1), {}), "unknown"), Error);
  EXPECT_THROW(product.run(quantized(testing::random_input(65, 16, 1), {}), "decode"), Error);
}

}  // namespace
}  // namespace halftone

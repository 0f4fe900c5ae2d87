#pragma once
// What the tests of linear() on the device share: formats and shapes, a weight on the device, and the exact product.

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/linear.h"
#include "backend/cuda/linear_prompt.h"
#include "backend/cuda/prepare_input.h"
#include "formats/e8m0.h"
#include "tests/backend/cuda/device_rows.h"
#include "tests/ops/linear_cases.h"

namespace halftone::testing {

class CudaLinear : public DeviceTest {};

inline std::vector<LinearFormat> device_formats() {
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
inline std::vector<LinearFormat> other_formats() {
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

inline std::vector<LinearFormat> all_formats() {
  std::vector<LinearFormat> formats = device_formats();
  for (const LinearFormat& format : other_formats()) formats.push_back(format);
  return formats;
}

inline std::vector<LinearShape> device_shapes() {
  return {{1, 1, 1},    {1, 16, 8},    {2, 33, 31},   {3, 17, 136},  {4, 70, 64},  {5, 15, 257},  {8, 49, 515},
          {7, 9, 2064}, {11, 24, 640}, {20, 17, 320}, {64, 33, 200}, {9, 40, 264}, {65, 40, 264}, {65, 9, 31}};
}

// x' of ops/linear.h and s_in.
struct QuantizedInput {
  Tensor codes, scales;
  Tensor groups, group_codes;  // [M, ceil(K / 128)] and [M, K], whose products are codes, where groups have scales
};
inline QuantizedInput quantized(const Tensor& x, const InputQuant& input) {
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
inline QuantizedInput first_rows(const QuantizedInput& x, std::int64_t rows) {
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
inline Exact exact_product(const QuantizedInput& x, const QTensor& weight, const Tensor& bias,
                           const LinearSource& source) {
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

inline Tensor bf16_values(Tensor x) { return to_f32(from_f32(x, DType::kBF16)); }

// linear.h: (K + 16) 2^-22 of the magnitude; linear_prompt.h: weights of groups, and of formats that bf16 does not hold,
// rounded to bf16, groups of inputs, too; E4M3 products.
inline double error_bound(std::int64_t k, double magnitude, const cuda::LinearWeight& weight, std::string_view kernel) {
  const double sums = static_cast<double>(k + 16) * 0x1p-22 * magnitude;
  if (kernel != "cublas") return sums;
  if (cuda::linear_prompt_input(weight) == DType::kF8E4M3) return sums + 0x1p-12 * magnitude;
  const bool rounded =
      weight.group_scales || weight.code_type() == cuda::CodeType::kF16 || weight.code_type() == cuda::CodeType::kF32;
  return sums + (rounded ? 0x1p-8 * magnitude : 0) + (cuda::scales_groups(weight.input.kind) ? 0x1p-8 * magnitude : 0);
}

}  // namespace halftone::testing
